"""SPCT from nothing on two CPU cores: `python recipes/tiny/run.py --seed 0 --out runs/tiny-0`.

Runs the stages of stages.py, two at a time, each in a process of one thread. Stop it at any time and
run it again: finished stages are kept.
"""

from __future__ import annotations

import argparse
import multiprocessing
import os
import sys
import time
import traceback
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent))

from stages import STAGES, Context, done, run_stage

from spct.errors import InputError

ENVIRONMENT = {"OMP_NUM_THREADS": "1", "TOKENIZERS_PARALLELISM": "false", "HF_HUB_OFFLINE": "1"}


def ready(finished: set[str], started: set[str], wanted: set[str]) -> list[str]:
    """Stages that can start now, the main path first.

    >>> ready({"data", "cold"}, set(), {"data", "cold", "rollouts", "hinted", "reject"})
    ['rollouts', 'hinted']
    """
    return [
        name
        for name, stage in STAGES.items()
        if name in wanted - finished - started and finished.issuperset(stage.needs)
    ]


def with_needs(names: list[str]) -> set[str]:
    """Stages and all that they need.

    >>> sorted(with_needs(["rollouts"]))
    ['cold', 'data', 'rollouts']
    """
    wanted: set[str] = set()
    while names:
        name = names.pop()
        if name not in wanted:
            wanted.add(name)
            names += STAGES[name].needs
    return wanted


def run(context: Context, wanted: set[str], jobs: int) -> bool:
    """Run the stages; False where one failed, after those under way have ended."""
    finished = {name for name in wanted if done(context, name) is not None}
    under_way: dict[Future[dict[str, object]], str] = {}
    failed, began = False, time.perf_counter()
    with ProcessPoolExecutor(jobs, mp_context=multiprocessing.get_context("spawn")) as pool:
        while True:
            names = [] if failed else ready(finished, set(under_way.values()), wanted)
            for name in names[: jobs - len(under_way)]:
                print(f"{time.perf_counter() - began:6.0f} s  {name} ...", flush=True)
                under_way[pool.submit(run_stage, context, name)] = name
            if not under_way:
                return not failed
            for future in wait(under_way, return_when=FIRST_COMPLETED).done:
                name, error = under_way.pop(future), future.exception()
                if error is not None:
                    failed = True
                    print(f"{name} failed:", "".join(traceback.format_exception(error)), file=sys.stderr)
                    continue
                finished.add(name)
                noted = {key: value for key, value in future.result().items() if not isinstance(value, list)}
                facts = ", ".join(f"{key} {value}" for key, value in noted.items())
                print(f"{time.perf_counter() - began:6.0f} s  {name}: {facts}", flush=True)


def main() -> int:
    """Read the command line and run."""
    parser = argparse.ArgumentParser(description="SPCT from nothing on two CPU cores")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, default=None, help="folder of the run [runs/tiny-SEED]")
    parser.add_argument("--jobs", type=int, default=2, help="stages at a time, one core each")
    parser.add_argument("--only", nargs="+", choices=list(STAGES), help="these stages and what they need")
    parser.add_argument(
        "--smoke", action="store_true", help="a minute of tiny steps: figures without meaning"
    )
    args = parser.parse_args()
    out = (args.out or Path(f"runs/tiny-{args.seed}")).resolve()
    os.environ.update(ENVIRONMENT)  # of the workers, which import torch
    context = Context(out, args.seed, args.smoke)
    try:
        return 0 if run(context, with_needs(list(args.only or STAGES)), args.jobs) else 1
    except InputError as error:
        print(error, file=sys.stderr)
        return 2


if __name__ == "__main__":
    sys.exit(main())
