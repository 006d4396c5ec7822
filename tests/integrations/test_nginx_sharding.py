"""The nginx lines of docs/sizing.md in front of two live servers: skipped where nginx is not installed."""

from __future__ import annotations

import json
import re
import shutil
import socket
import subprocess
import urllib.request
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import pytest

from live_server import live_server
from quality_judge import Engine

pytest.importorskip("uvicorn")
NGINX = shutil.which("nginx", path="/usr/sbin:/usr/bin:/usr/local/sbin:/usr/local/bin")
pytestmark = pytest.mark.skipif(NGINX is None, reason="nginx is not installed")
DOCUMENT = Path(__file__).parents[2] / "docs" / "sizing.md"
GROUPS, SIZE = 12, 4


def documented(port: int, servers: list[str]) -> str:
    """The block of the document, with this test's ports."""
    found = re.search(r"```nginx\n(.*?)```", DOCUMENT.read_text(encoding="utf-8"), re.DOTALL)
    assert found is not None
    text = found.group(1).replace("127.0.0.1:8100", f"127.0.0.1:{port}")
    for old, url in zip(("127.0.0.1:8101", "127.0.0.1:8102"), servers, strict=True):
        assert old in text
        text = text.replace(old, url.removeprefix("http://"))
    return text


@contextmanager
def nginx(servers: list[str], folder: Path) -> Iterator[str]:
    assert NGINX is not None
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    parts = ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
    kept = "\n".join(f"{part}_temp_path {folder}/{part};" for part in parts)
    block = documented(port, servers)
    config = f"""daemon off; worker_processes 1; pid {folder}/pid; error_log stderr;
events {{}}
http {{ access_log off; {kept}
{block} }}"""
    (folder / "nginx.conf").write_text(config)
    process = subprocess.Popen([NGINX, "-e", "stderr", "-c", str(folder / "nginx.conf")])
    try:
        for _ in range(200):
            assert process.poll() is None
            try:
                socket.create_connection(("127.0.0.1", port), timeout=0.05).close()
                break
            except OSError:
                process_waits(process)
        yield f"http://127.0.0.1:{port}"
    finally:
        process.terminate()
        process.wait(10)


def process_waits(process: subprocess.Popen[bytes]) -> None:
    """A moment, cut short by the end of the process."""
    try:
        process.wait(0.02)
    except subprocess.TimeoutExpired:
        return


def post(url: str, group: int, member: int, *, header: bool = True, size: int = SIZE) -> dict[str, Any]:
    body = {
        "prompt": "2+2?",
        "response": f"group {group} quality {member + 1}",
        "group_id": f"g{group}",
        "group_size": size,
        "deadline_s": 20,
    }
    headers = {"Content-Type": "application/json"} | ({"X-Group": f"g{group}"} if header else {})
    request = urllib.request.Request(f"{url}/v1/group", json.dumps(body).encode(), headers)
    with urllib.request.urlopen(request, timeout=60) as reply:
        answer: dict[str, Any] = json.load(reply)
        return answer


def test_the_members_of_a_group_meet_at_one_server(tmp_path: Path) -> None:
    engines = [Engine(), Engine()]
    with ExitStack() as stack:
        urls = [stack.enter_context(live_server(engine)) for engine in engines]
        front = stack.enter_context(nginx(urls, tmp_path))
        calls = [(group, member) for member in range(SIZE) for group in range(GROUPS)]
        with ThreadPoolExecutor(len(calls)) as pool:
            answers = list(pool.map(lambda call: post(front, *call), calls))
    assert [a["reward"] for a in answers] == [member + 1.0 for _, member in calls]
    assert all(a["how"] == "complete" for a in answers)
    judged = [len(engine.calls) for engine in engines]
    assert sum(judged) == GROUPS  # one list call a group
    assert min(judged) > 0  # and both servers had some


def test_without_the_header_calls_are_dealt_out_in_turn(tmp_path: Path) -> None:
    engines = [Engine(), Engine()]
    with ExitStack() as stack:
        urls = [stack.enter_context(live_server(engine)) for engine in engines]
        front = stack.enter_context(nginx(urls, tmp_path))
        for member in range(4):
            post(front, 0, member, header=False, size=1)
    assert [len(engine.calls) for engine in engines] == [2, 2]
