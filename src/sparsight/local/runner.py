"""Runs a pipeline's steps on this machine, each as its own process, reusing what was made before."""

import dataclasses
import json
import os
import shutil
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path

from sparsight.data.artefact import is_artefact, write_text
from sparsight.errors import NOTHING_TO_DO
from sparsight.guarded.step_process import StepProcess, terminable
from sparsight.local.cache import Cache, Found, is_finished, key_of, reused
from sparsight.local.command import render
from sparsight.local.distribution import launched, size_of
from sparsight.local.graph import Data, Literal, Pipeline, Scalar, Step, moving_input
from sparsight.local.records import RunFolder, RunRecord, StepRecord
from sparsight.local.room import Room
from sparsight.local.view import View, last_lines


class Runner:
    """Carries one run to its end.

    Args:
        pipeline: the checked pipeline, its values in place.
        run: the run's folder; what it holds of an earlier attempt is taken up.
        cache: where to look for earlier results.
        environment: gives a step's variables on top of this process's own; starts what the step needs.
        force: run every step, whatever was made before.
        at_once: the number of steps that may run side by side, whatever they need; by default what there is room for.
    """

    def __init__(
        self,
        pipeline: Pipeline,
        run: RunFolder,
        cache: Cache,
        environment: Callable[[Step], Mapping[str, str]],
        *,
        force: bool = False,
        at_once: int | None = None,
    ) -> None:
        self.pipeline, self.run, self.cache = pipeline, run, cache
        self.environment = environment
        self.force = force or pipeline.force_rerun
        self.room = Room(at_once, sys.maxsize) if at_once else Room.of_this_machine()
        self.records = {
            name: StepRecord(name=name, component=pipeline.steps[name].component) for name in pipeline.order()
        }
        self._running: dict[str, StepProcess] = {}

    def carry_out(self, record: RunRecord, view: View) -> str:
        """Run all steps; return the run's status: done, failed, cancelled, or skipped where a step found nothing to do.

        The records on disk are right at any moment, also when this process is killed.
        """
        self.run.write(record)
        with terminable():
            try:
                self._loop(view)
                record.status = self._ended("failed") or self._ended("skipped") or "done"
            except KeyboardInterrupt:
                record.status = "cancelled"
                self._cancel(view)
            except BaseException:
                record.status = "failed"
                self._cancel(view)
                raise
            finally:
                record.finished = time.time()
                self.run.write(record)
        return record.status

    def outputs(self, step: str) -> dict[str, Path]:
        """Find where a finished step's outputs are, by name."""
        return {name: self.cache.runs / each["path"] for name, each in self.records[step].outputs.items()}

    def _ended(self, status: str) -> str:
        """Give the status back where a step ended so."""
        return status if any(record.status == status for record in self.records.values()) else ""

    def _loop(self, view: View) -> None:
        while True:
            self._collect(view)
            if not (self._ended("failed") or self._ended("skipped")):
                self._start_ready(view)
            if not self._running:
                return
            view.tick()
            time.sleep(0.03)

    def _start_ready(self, view: View) -> None:
        progress = True
        while progress:  # a reused step may free the next one at once
            progress = False
            for name, record in self.records.items():
                step = self.pipeline.steps[name]
                ready = record.status == "waiting" and all(is_finished(self.records[each]) for each in step.parents)
                if ready and self.room.takes(step, [self.pipeline.steps[each] for each in self._running]):
                    self._begin(step, view)
                    progress = True

    def _begin(self, step: Step, view: View) -> None:
        record = self.records[step.name]
        record.parts = self.cache.parts(self.pipeline, step, self.records)
        record.key = key_of(record.parts)
        found = self._earlier(step, record)
        if isinstance(found, Found) and found.run == self.run.id and found.record.name == step.name:
            kept = dataclasses.replace(found.record, reason=found.record.reason or "finished before")
            self.records[step.name] = kept
            view.changed(dataclasses.replace(kept, status="reused", reason="finished before, kept"))
        elif isinstance(found, Found):
            self.records[step.name] = record = reused(record, found)
            self._link(step, record)
            self._finish(record, view)
        else:
            record.reason = found
            self._start(step, record)
            view.changed(record)

    def _earlier(self, step: Step, record: StepRecord) -> Found | str:
        if self.force:
            return "forced"
        own = self.run.read_step(step.name)
        if own is not None and is_finished(own) and own.key == record.key and self.cache.outputs_whole(own):
            return Found(self.run.id, own)
        if not step.deterministic:
            return "runs every time: is_deterministic is false"
        if moving := moving_input(self.pipeline, step):
            return f"runs every time: {moving} may be something else by now"
        return self.cache.find(record.key, self.pipeline.name, step.name, record.parts)

    def _link(self, step: Step, record: StepRecord) -> None:
        """Make a reused step's outputs reachable under this run's folder too."""
        for name, each in record.outputs.items():
            link = self._output_path(step, name)
            _remove(link)
            link.symlink_to(os.path.relpath(self.cache.runs / each["path"], link.parent))

    def _output_path(self, step: Step, name: str) -> Path:
        folder = self.run.step(step.name) / "outputs"
        folder.mkdir(parents=True, exist_ok=True)
        return folder / name

    def _start(self, step: Step, record: StepRecord) -> None:
        inputs = {name: self._input(step, name) for name in step.ports}
        outputs = {name: self._output_path(step, name).absolute() for name in step.outputs}
        goes_on = self._goes_on(record)
        for name, path in outputs.items():
            self._make_room(step, path, goes_on=goes_on)
            # As on Azure ML the folder is there beforehand; our own steps make theirs in one go, to be seen whole only.
            if step.outputs[name] != "uri_file" and not step.is_ours:
                path.mkdir()
        command = render(step.command, inputs, outputs)
        folder = self.run.step(step.name)
        size = size_of(self.pipeline, step)
        told = {
            "command": command,
            "processes": size.total,
            "inputs": {name: str(value) if isinstance(value, Path) else value for name, value in inputs.items()},
            "outputs": {name: str(path) for name, path in outputs.items()},
            "working_directory": str(step.code or folder),
            "environment_variables": dict(step.variables),
        }
        write_text(folder / "inputs.json", json.dumps(told, indent=2) + "\n")
        variables = self._variables(step)
        if size.total > 1:
            variables.setdefault("OMP_NUM_THREADS", str(max(1, step.cores // size.total)))
            command = launched(command, size.total)
            record.reason += f"; {size.total} processes"
        record.status, record.started, record.finished = "running", time.time(), 0.0
        self.run.write_step(record)
        self._running[step.name] = StepProcess(command, step.code or folder, self.run.log(step.name), variables)

    def _goes_on(self, record: StepRecord) -> bool:
        """Tell whether an attempt that was cut off did the very same: same code, command and inputs."""
        before = self.run.read_step(record.name)
        return before is not None and before.key == record.key and not is_finished(before)

    def _make_room(self, step: Step, path: Path, *, goes_on: bool) -> None:
        """Take away what was made for an output before, but not what the step goes on from.

        Half-made work of other code or inputs would end up in a result that is remembered as this code's. Our own
        steps find an output that is whole, as where only registering a model failed, and don't make it again.
        """
        if not (goes_on and step.is_ours and is_artefact(path)):
            _remove(path)
        if not goes_on:
            _remove(path.with_name(f"{path.name}.partial"))

    def _variables(self, step: Step) -> dict[str, str]:
        variables = {**os.environ, "PYTHONUNBUFFERED": "1", **self.environment(step), **step.variables}
        variables["SPARSIGHT_RUN"] = self.run.id
        variables["PATH"] = os.pathsep.join([str(Path(sys.executable).parent), variables.get("PATH", os.defpath)])
        if step.code is not None:
            paths = [str(step.code), *filter(None, [variables.get("PYTHONPATH")])]
            variables["PYTHONPATH"] = os.pathsep.join(paths)
        return variables

    def _input(self, step: Step, name: str) -> Scalar | Path | None:
        source = self.pipeline.source(step, name)
        match source:
            case None:
                return None
            case Literal(value=value):
                return value
            case Data(path=path):
                return path
        return self.outputs(source.step)[source.output].absolute()

    def _collect(self, view: View) -> None:
        for name, process in list(self._running.items()):
            code = process.poll()
            if code is None:
                continue
            del self._running[name]
            record = self.records[name]
            record.exit_code, record.finished = code, time.time()
            record.status = self._status(self.pipeline.steps[name], record, code)
            self._finish(record, view)

    def _status(self, step: Step, record: StepRecord, code: int) -> str:
        if code == NOTHING_TO_DO and step.is_ours:
            record.reason = next(iter(last_lines(self.run.log(step.name), 1)), "nothing to do")
            return "skipped"
        return "done" if code == 0 and self._describe(step, record) else "failed"

    def _describe(self, step: Step, record: StepRecord) -> bool:
        """Record the outputs; False, and a line in the log, when the step did not make one of them."""
        for name in step.outputs:
            path = self._output_path(step, name)
            if not path.exists():
                with self.run.log(step.name).open("a", encoding="utf-8") as log:
                    log.write(f"error: the step ended without making its output {name!r} ({path})\n")
                return False
            record.outputs[name] = self.cache.describe(path)
        return True

    def _finish(self, record: StepRecord, view: View) -> None:
        self.run.write_step(record)
        if is_finished(record):
            self.cache.remember(self.run, record, self.pipeline.name)
        view.changed(record)

    def _cancel(self, view: View) -> None:
        for process in self._running.values():
            process.ask_to_end()
        for name, process in self._running.items():
            process.end()
            record = self.records[name]
            record.status, record.finished = "cancelled", time.time()
            self._finish(record, view)
        self._running.clear()


def _remove(path: Path) -> None:
    if path.is_symlink() or path.is_file():
        path.unlink()
    elif path.exists():
        shutil.rmtree(path)
