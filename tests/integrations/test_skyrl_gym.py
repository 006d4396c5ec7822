"""The SkyRL example in the real skyrl-gym, which wants Python 3.12: skipped where it is not installed."""

from __future__ import annotations

import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from live_server import live_server
from quality_judge import Engine

skyrl_gym = pytest.importorskip("skyrl_gym", reason="skyrl-gym 0.4 is not installed (needs Python 3.12)")
ROOT = Path(__file__).parents[2]
QUESTION = [{"role": "user", "content": "2+2?"}]


@pytest.mark.filterwarnings("default")  # the package's own
def test_rollouts_of_a_prompt_are_judged_together(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "path", [str(ROOT), *sys.path])
    engine = Engine()
    with live_server(engine) as url:
        monkeypatch.setenv("SPCT_URL", url)
        skyrl_gym.register(id="spct", entry_point="examples.skyrl_env:JudgedEnv")

        def rollout(text: str) -> Any:
            extras = {"group_size": 2, "reward_spec": {"method": "spct", "ground_truth": None}}
            env = skyrl_gym.make("spct", env_config={}, extras=extras)
            assert env.init(QUESTION) == (QUESTION, {})
            return env.step(text)

        with ThreadPoolExecutor(2) as pool:
            outputs = list(pool.map(rollout, ["quality 3", "quality 8"]))
        sys.modules["examples.skyrl_env"].CLIENT.close()
    assert [output["reward"] for output in outputs] == [3.0, 8.0]
    assert all(output["done"] and output["observations"] == [] for output in outputs)
    assert len(engine.calls) == 1
