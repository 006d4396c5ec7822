"""Every settings file under recipes/ loads, and the paper's are the paper's."""

import re
import tomllib
from pathlib import Path

import pytest

from spct.training.configs import STAGES, load_config
from spct.training.verl import verl_overrides

RECIPES = Path(__file__).parents[2] / "recipes"
TOMLS = sorted(
    path for path in RECIPES.rglob("*.toml") if tomllib.loads(path.read_text()).get("stage") in STAGES
)


@pytest.mark.parametrize("path", TOMLS, ids=lambda path: str(path.relative_to(RECIPES)))
def test_stage_file_loads(path):
    kind = STAGES[tomllib.loads(path.read_text())["stage"]]
    load_config(kind, path)


def test_paper_scale_numbers():
    rft, grpo, meta = (
        load_config(STAGES[stage], RECIPES / "gemma-2-27b" / f"{stage.replace('-', '_')}.toml")
        for stage in ("rft", "grpo", "meta-rm")
    )
    assert (rft.lr, rft.batch, rft.steps) == (5e-6, 1024, 900)
    assert (grpo.lr, grpo.batch, grpo.steps, grpo.group_size, grpo.beta) == (4e-7, 512, 900, 4, 0.08)
    assert (meta.lr, meta.batch) == (1e-5, 512)
    assert f"{grpo.model}".startswith(rft.out)  # RL and its reference start from RFT
    assert any("kl_loss_coef=0.08" in override for override in verl_overrides(grpo, Path("/out")))


def test_every_line_of_the_paper_scale_files_cites_its_source():
    for path in (RECIPES / "gemma-2-27b").glob("*.toml"):
        for line in path.read_text().splitlines():
            setting = re.match(r'(\w+ = |  "runs)', line)
            if setting and not line.startswith(("stage", "out", "data = [\n")) and not line.endswith("["):
                assert re.search(r"#.*(§\d|ours)", line), f"{path.name}: {line}"
