"""Flags and dispatch only: what a run does stands in acx_jax/stages, what can be set in acx_jax/config.py.

    python -m acx_jax.main --config=configs/demo.py --workdir=runs/demo
    python -m acx_jax.main --workdir=runs/demo --stage=evaluate --config.episodes.shot=1
"""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Iterator
from typing import NoReturn

from acx_jax import command_line, remembered
from acx_jax.command_line import Request
from acx_jax.errors import UsageError, WorkError
from acx_jax.runtime.files import only_one
from acx_jax.runtime.host_memory import restart_with_large_pages
from acx_jax.runtime.run_log import RunLog
from acx_jax.runtime.stopping import ending, listening


def run(arguments: list[str]) -> None:
    """Parses, remembers the config in the workdir, and brings the asked stage up to date."""
    request = command_line.parse(arguments)
    if request is None:  # help was asked for and given
        return
    remembered.wanted_config(request)  # what is wrong is said before anything is written
    command_line.make_workdir(request.workdir)
    if request.shard:
        with _alone(request):
            run_shard(request)
    else:
        run_stages(request)


def run_stages(request: Request) -> None:
    """Brings the asked stage and all that it needs up to date; of processes that work together, all but the first only help it."""
    from acx_jax.stages import pipeline, start  # loads jax: only once the flags are right

    config = remembered.wanted_config(request)
    process = start.set_up(config, request.together)
    pipeline.refuse(request.stage, config)
    if process:
        log = RunLog(request.workdir / f"log.process-{process}.txt")
        start.announce(config, request.workdir, log)
        pipeline.take_part(request.stage, config=config, workdir=request.workdir, log=log)
        return
    with _alone(request), remembered.remembering(request):
        log = RunLog(request.workdir / "log.txt")
        start.announce(config, request.workdir, log)
        pipeline.bring_up_to_date(request.stage, config=config, workdir=request.workdir, log=log)


def run_shard(request: Request) -> None:
    """Reads one shard of the videos, unless all of them are put together already; the workdir remembers nothing of it."""
    config = remembered.wanted_config(request)
    log = RunLog(request.workdir / f"log.shard-{request.shard.index}-of-{request.shard.count}.txt")
    if (request.workdir / "prepare").exists():
        from acx_jax.stages import pipeline  # loads jax, which reading does without

        if pipeline.says_up_to_date("prepare", config=config, workdir=request.workdir, log=log):
            return
    from acx_jax.stages import videos

    videos.read_shard(*request.shard, config=config, workdir=request.workdir, log=log)


@contextlib.contextmanager
def _alone(request: Request) -> Iterator[None]:
    """Holds the workdir, or this shard of it. Raises UsageError when another run is at work there; shards work side by side."""
    busy = UsageError(f"{request.workdir} is in use by another run: wait for it, or choose another --workdir")
    with contextlib.ExitStack() as held:
        whole = held.enter_context(only_one(request.workdir / ".lock"))
        shards = [path for path in request.workdir.glob(".lock.shard-*") if not request.shard and not held.enter_context(only_one(path))]
        if not whole or shards:
            raise busy
        if request.shard:
            held.pop_all().close()  # it was only to be free
            own = request.workdir / f".lock.shard-{request.shard.index}-of-{request.shard.count}"
            if not held.enter_context(only_one(own)):
                raise busy
        yield


def main(arguments: list[str]) -> int:
    """Runs and returns the exit status: 0, 1 for failed work, 2 for wrong usage, 130 when interrupted, 143 after SIGTERM."""
    for stream in (sys.stdout, sys.stderr):
        stream.reconfigure(errors="backslashreplace")  # names of files and folders may not fit the terminal's encoding
    try:
        with listening():
            run(arguments)
        return 0
    except UsageError as error:
        print(f"acx_jax: {error}", file=sys.stderr)
        return 2
    except WorkError as error:
        print(f"acx_jax: {error}", file=sys.stderr)
        return 1
    except OSError as error:
        print(f"acx_jax: {command_line.explain(error)}", file=sys.stderr)
        return 1
    except KeyboardInterrupt as error:
        status, said = ending(error)
        print(said, file=sys.stderr)
        return status


def leave(status: int, arguments: list[str]) -> NoReturn:
    """Ends the process: at once where it was asked to stop, for threads may still compile, and end Python with a crash; or where others joined it
    that still wait for it, as it would for them."""
    sys.stdout.flush()
    sys.stderr.flush()
    if status in ((1, 2, 130) if command_line.joins(arguments) else (130, 143)):
        os._exit(status)
    sys.exit(status)


if __name__ == "__main__":
    restart_with_large_pages()
    leave(main(sys.argv[1:]), sys.argv[1:])
