// Runs apart, with Node.js: the Cosmos DB server on 127.0.0.1, with connections kept alive and a journal on disk.
//
// usage: node cosmos_server.js PORT DATA_FOLDER
//
// The server of @vercel/cosmosdb-server keeps everything in memory. Here every change goes to journal.jsonl first, one
// line each: {"put": item, "count": n} or {"delete": path}. Items keep their resource ids and ETags over a restart.
// A killed process loses nothing that was answered; a power cut loses at most the last FSYNC_MS of changes.
"use strict";

const fs = require("fs");
const path = require("path");

const FSYNC_MS = 200;
const IDLE_MS = 75_000; // longer than clients keep an idle connection, so that they close it, never the server
const CHUNK = 1 << 20;
const LIBRARY = "@vercel/cosmosdb-server/lib";

const { createHttpsServer } = require(LIBRARY);
const accountModule = require(`${LIBRARY}/account`);
const Items = require(`${LIBRARY}/account/items`).default;
const PartitionKeyRanges = require(`${LIBRARY}/account/partition-key-ranges`).default;

function fail(message) {
  process.stderr.write(`${message}\n`);
  process.exit(1);
}

class Journal {
  constructor(folder) {
    this.path = path.join(folder, "journal.jsonl");
    this.file = null; // while there is none, nothing is recorded
    this.dirty = false;
  }

  open() {
    this.file = fs.openSync(this.path, "a", 0o600);
    setInterval(() => this.sync(), FSYNC_MS).unref();
  }

  record(entry) {
    if (this.file === null) return;
    try {
      fs.appendFileSync(this.file, `${JSON.stringify(entry)}\n`);
    } catch (error) {
      // What is in memory must never be more than what is on disk.
      fail(`${this.path} can't be written: ${error.message}`);
    }
    this.dirty = true;
  }

  sync() {
    if (!this.dirty) return;
    this.dirty = false;
    fs.fsyncSync(this.file);
  }

  // Calls `apply` with each entry; returns the number of entries and whether a torn last line was left out.
  replay(apply) {
    let entries = 0;
    let rest = Buffer.alloc(0);
    if (!fs.existsSync(this.path)) return { entries, torn: false };
    const file = fs.openSync(this.path, "r");
    const chunk = Buffer.alloc(CHUNK);
    for (let size; (size = fs.readSync(file, chunk)) > 0; ) {
      let start = 0;
      const data = Buffer.concat([rest, chunk.subarray(0, size)]);
      for (let end; (end = data.indexOf(10, start)) >= 0; start = end + 1) {
        entries += 1;
        this.apply(data.toString("utf8", start, end), entries, apply);
      }
      rest = Buffer.from(data.subarray(start));
    }
    fs.closeSync(file);
    return { entries, torn: rest.length > 0 };
  }

  apply(line, number, apply) {
    try {
      apply(JSON.parse(line));
    } catch (error) {
      fail(`${this.path}, line ${number} can't be read: ${error.message}`);
    }
  }

  rewrite(entries) {
    const draft = `${this.path}.draft`;
    const file = fs.openSync(draft, "w", 0o600);
    for (const entry of entries) fs.appendFileSync(file, `${JSON.stringify(entry)}\n`);
    fs.fsyncSync(file);
    fs.closeSync(file);
    fs.renameSync(draft, this.path);
  }
}

// The list that an item's path ("/dbs/a/colls/b/docs/c/") belongs to, and the item's resource id.
function locate(account, self) {
  const [, database, kind, collection, leaf, id] = self.split("/").filter(Boolean);
  if (!kind) return { items: account.databases, rid: database };
  const { collections } = account.database(database);
  if (!leaf) return { items: collections, rid: collection };
  const parent = account.database(database).collection(collection);
  return { items: leaf === "docs" ? parent.documents : parent.userDefinedFunctions, rid: id };
}

function restore(account, entry) {
  const { items, rid } = locate(account, entry.delete || entry.put._self);
  if (entry.delete) {
    items.delete(rid);
    return;
  }
  items._set(entry.put);
  items._ridCount = Math.max(items._ridCount, entry.count);
}

function* contents(account) {
  for (const database of account.databases._data.values()) {
    yield { put: database.read(), count: account.databases._ridCount };
    for (const collection of database.collections._data.values()) {
      yield { put: collection.read(), count: database.collections._ridCount };
      for (const items of [collection.userDefinedFunctions, collection.documents])
        for (const item of items._data.values()) yield { put: item.read(), count: items._ridCount };
    }
  }
}

function compile(body) {
  return new Function(`"use strict";return (${body})`)();
}

function recordChanges(journal) {
  const { _set, delete: remove, replace } = Items.prototype;
  const recorded = items => !(items instanceof PartitionKeyRanges);

  Items.prototype._set = function set(data) {
    if (recorded(this)) journal.record({ put: data, count: this._ridCount });
    // The library's replace of a function forgets its code; and a restored one needs it, too.
    if (this.functions) this.functions[data.id] = compile(data.body);
    return _set.call(this, data);
  };
  Items.prototype.delete = function recordedDelete(idOrRid, partition) {
    const data = this._item("/id", idOrRid, partition).read();
    if (data && recorded(this) && !this.replacing) journal.record({ delete: data._self });
    return remove.call(this, idOrRid, partition);
  };
  // The library replaces by deleting and setting; the new value alone says it all.
  Items.prototype.replace = function recordedReplace(data, original) {
    this.replacing = true;
    try {
      return replace.call(this, data, original);
    } finally {
      this.replacing = false;
    }
  };
}

function restoreAtStart(journal) {
  const Account = accountModule.default;
  // The library makes its account when it starts to listen, before it can answer the first request.
  accountModule.default = class extends Account {
    constructor(host, port) {
      super(host, port);
      const began = Date.now();
      const { entries, torn } = journal.replay(entry => restore(this, entry));
      const kept = [...contents(this)];
      if (torn || kept.length < entries) journal.rewrite(kept);
      journal.open();
      const leftOut = torn ? ", its unfinished last line left out" : "";
      console.log(`journal of ${entries} lines read in ${Date.now() - began} ms: ${kept.length} items${leftOut}`);
    }
  };
}

function main() {
  const [port, folder] = process.argv.slice(2);
  const journal = new Journal(folder);
  recordChanges(journal);
  restoreAtStart(journal);
  const server = createHttpsServer({ keepAlive: true });
  server.keepAliveTimeout = IDLE_MS;
  server.on("error", error => fail(`can't listen on 127.0.0.1:${port}: ${error.message}`));
  server.listen(Number(port), "127.0.0.1", () => console.log(`listening on https://127.0.0.1:${port}/`));
  for (const signal of ["SIGTERM", "SIGINT"])
    process.on(signal, () => {
      journal.sync();
      process.exit(0);
    });
}

main();
