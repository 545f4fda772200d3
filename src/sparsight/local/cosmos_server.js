// Runs apart, with Node.js: the Cosmos DB server on 127.0.0.1, with connections kept alive and a journal on disk.
//
// usage: node cosmos_server.js PORT DATA_FOLDER
//
// The server of @vercel/cosmosdb-server keeps everything in memory. Here every change goes to journal.jsonl first, one
// line each: {"in": path of resource ids, "put": item, "count": n} or {"in": path, "delete": resource id}. Items keep
// their resource ids and ETags over a restart.
// A killed process loses nothing that was answered; a power cut loses at most the last FSYNC_MS of changes.
//
// The library asks nobody for a key, and its user-defined functions are code that runs here: so every request but the
// account's description must be signed with SPARSIGHT_COSMOS_KEY, as the real service asks for it.
"use strict";

const crypto = require("crypto");
const fs = require("fs");
const path = require("path");

const FSYNC_MS = 200;
const IDLE_MS = 75_000; // longer than clients keep an idle connection, so that they close it, never the server
const PAGES_MS = 120_000; // how long the rest of an answer waits to be asked for
const CHUNK = 1 << 20;
const LIBRARY = "@vercel/cosmosdb-server/lib";
const QUERIES = "@zeit/cosmosdb-query/lib"; // what that library answers queries with

const { createHttpsServer } = require(LIBRARY);
const accountModule = require(`${LIBRARY}/account`);
const Collections = require(`${LIBRARY}/account/collections`).default;
const Databases = require(`${LIBRARY}/account/databases`).default;
const Items = require(`${LIBRARY}/account/items`).default;
const PartitionKeyRanges = require(`${LIBRARY}/account/partition-key-ranges`).default;
const helpers = require(`${QUERIES}/helpers`);

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

// Where a list of items hangs: [] for databases, [database] for containers, [database, container, "docs" or "udfs"].
function place(items) {
  const parent = items._parent.read();
  if (items instanceof Databases) return [];
  if (items instanceof Collections) return [parent._rid];
  // A resource id may have slashes in it, so that a path isn't taken apart at them.
  const database = parent._self.slice("/dbs/".length, -`/colls/${parent._rid}`.length);
  return [database, parent._rid, items.functions ? "udfs" : "docs"];
}

function find(account, [database, collection, kind]) {
  if (!database) return account.databases;
  if (!collection) return account.database(database).collections;
  const parent = account.database(database).collection(collection);
  return kind === "docs" ? parent.documents : parent.userDefinedFunctions;
}

function restore(account, entry) {
  const items = find(account, entry.in);
  if (entry.delete) {
    items.delete(entry.delete);
    return;
  }
  items._set(entry.put);
  items._ridCount = Math.max(items._ridCount, entry.count);
}

function putEntry(items, data) {
  return { in: place(items), put: data, count: items._ridCount };
}

function* entriesOf(items) {
  for (const item of items._data.values()) yield putEntry(items, item.read());
}

function* contents(account) {
  yield* entriesOf(account.databases);
  for (const database of account.databases._data.values()) {
    yield* entriesOf(database.collections);
    for (const collection of database.collections._data.values()) {
      yield* entriesOf(collection.userDefinedFunctions);
      yield* entriesOf(collection.documents);
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
    if (recorded(this)) journal.record(putEntry(this, data));
    // The library's replace of a function forgets its code; and a restored one needs it, too.
    if (this.functions) this.functions[data.id] = compile(data.body);
    return _set.call(this, data);
  };
  Items.prototype.delete = function recordedDelete(idOrRid, partition) {
    const data = this._item("/id", idOrRid, partition).read();
    if (data && recorded(this) && !this.replacing) journal.record({ in: place(this), delete: data._rid });
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

// The library copies all rows found so far for each further row, so that 100,000 documents take minutes. Here a row is
// added to a list twice: when documents are looked at, and when the rows are rid of what is undefined. Joins stay slow.
function answerQueriesInLinearTime() {
  const { _getQuery } = Items.prototype;
  const copying = /reduce\(\(\$, (\w+)\) => typeof \1 !== "undefined" \? \[\.\.\.\$, \{\s*\1: \1\s*\}\] : \$, \[\]\)/g;

  Items.prototype._getQuery = function linear(text) {
    const query = _getQuery.call(this, text);
    query._code = query.code.replace(copying, 'flatMap($1 => typeof $1 !== "undefined" ? [{ $1: $1 }] : [])');
    return query;
  };

  helpers.stripUndefined = function strip(value) {
    if (Array.isArray(value)) return value.filter(each => each !== undefined).map(strip);
    if (!value || typeof value !== "object") return value;
    const defined = Object.entries(value).filter(([, each]) => each !== undefined);
    return Object.fromEntries(defined.map(([key, each]) => [key, strip(each)]));
  };
}

// The library looks at everything anew for each page of a query, and loses its place where a document was written again.
// Here a query is answered once, and its rows wait for their pages.
function answerQueriesOnce() {
  const { query } = Items.prototype;
  const waiting = new Map();

  function page(rows, from, size) {
    const to = size > 0 ? from + size : rows.length;
    const result = rows.slice(from, to);
    if (to >= rows.length) return { result, continuation: null };
    const token = crypto.randomUUID();
    waiting.set(token, { rows, from: to });
    setTimeout(() => waiting.delete(token), PAGES_MS).unref();
    return { result, continuation: { token, range: { min: "", max: "FF" } } };
  }

  Items.prototype.query = function answerOnce(params, { maxItemCount, continuation }) {
    if (continuation) {
      const rest = waiting.get(continuation.token);
      if (rest) return page(rest.rows, rest.from, maxItemCount);
      throw Object.assign(new Error("The rest of this answer waited too long to be asked for."), { badRequest: true });
    }
    const answer = query.call(this, params, {});
    return answer && page(answer.result, 0, maxItemCount);
  };
}

// The signature of a request by the account's key, as in
// https://learn.microsoft.com/rest/api/cosmos-db/access-control-on-cosmosdb-resources
function signature(key, request, link, type) {
  const date = request.headers["x-ms-date"] || "";
  const text = `${request.method}\n${type}\n`.toLowerCase() + `${link}\n${date.toLowerCase()}\n\n`;
  return crypto.createHmac("sha256", key).update(text, "utf8").digest();
}

function isSigned(key, request) {
  const [pathname] = request.url.split(/[?#]/, 1);
  if (/^\/+$/.test(pathname)) return true; // the account's description: addresses, no content
  const parts = decodeURIComponent(pathname).split("/").filter(Boolean);
  const type = parts.length % 2 ? parts[parts.length - 1] : parts[parts.length - 2];
  const link = (parts.length % 2 ? parts.slice(0, -1) : parts).join("/");
  const token = new URLSearchParams(decodeURIComponent(request.headers.authorization || "").replaceAll("+", "%2B"));
  const given = Buffer.from(token.get("sig") || "", "base64");
  return [link, link.toLowerCase()].some(name => {
    const expected = signature(key, request, name, type);
    return given.length === expected.length && crypto.timingSafeEqual(given, expected);
  });
}

function refuseStrangers(server, key) {
  const [answer] = server.listeners("request");
  server.removeAllListeners("request");
  server.on("request", (request, response) => {
    let signed = false;
    try {
      signed = isSigned(key, request);
    } catch (error) {
      if (!(error instanceof URIError)) throw error; // an address or token that isn't one
    }
    if (signed) {
      answer(request, response);
      return;
    }
    response.writeHead(401, { "content-type": "application/json" });
    response.end(JSON.stringify({ code: "Unauthorized", message: "The request isn't signed with this account's key." }));
  });
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
  if (!folder || !process.env.SPARSIGHT_COSMOS_KEY) fail("usage: SPARSIGHT_COSMOS_KEY=... node cosmos_server.js PORT FOLDER");
  const journal = new Journal(folder);
  recordChanges(journal);
  answerQueriesInLinearTime();
  answerQueriesOnce();
  restoreAtStart(journal);
  const server = createHttpsServer({ keepAlive: true });
  refuseStrangers(server, Buffer.from(process.env.SPARSIGHT_COSMOS_KEY, "base64"));
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
