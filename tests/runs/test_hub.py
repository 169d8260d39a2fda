"""Folders go to the Hub and come back; a stand-in of it on this machine answers."""

import base64
import hashlib
import http.server
import json
import os
import re
import subprocess
import sys
import threading
from collections.abc import Iterator

import pytest

from expertgen_jax.errors import UserError
from expertgen_jax.runs import hub

COMMIT = "0" * 40


class Hub(http.server.BaseHTTPRequestHandler):
    """As much of the Hub as one upload and one download ask for; files of all repositories by their addresses."""

    files: dict[str, dict[str, bytes]]
    tags: dict[str, str]
    private: set[str]

    def answer(self, content: bytes | dict | list, status: int = 200, **headers: str) -> None:
        body = content if isinstance(content, bytes) else json.dumps(content).encode()
        self.send_response(status)
        for name, value in {"Content-Length": str(len(body)), "X-Repo-Commit": COMMIT, **headers}.items():
            self.send_header(name.replace("_", "-"), value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        if self.path == "/api/repos/create":
            asked = json.loads(body)
            name = "/".join(filter(None, (asked.get("organization"), asked["name"])))
            address = f"{asked.get('type', 'model')}s/{name}"
            if address not in self.files and (asked.get("private") or asked.get("visibility") == "private"):
                self.private.add(address)
            self.files.setdefault(address, {})
            place = "" if asked.get("type", "model") == "model" else f"{asked['type']}s/"
            self.answer({"url": f"http://{self.headers['Host']}/{place}{name}", "name": name, "id": name})
        elif match := re.fullmatch(r"/api/(\w+/[^/]+/[^/]+)/tag/main", self.path):
            self.tags[match[1]] = json.loads(body)["tag"]
            self.answer({})
        elif self.path == "/api/validate-yaml":
            self.answer({"errors": [], "warnings": []})
        elif match := re.fullmatch(r"/api/(\w+/.+)/preupload/main", self.path):
            asked = json.loads(body)["files"]
            modes = [{"path": x["path"], "uploadMode": "regular", "shouldIgnore": False, "oid": None} for x in asked]
            self.answer({"files": modes})
        elif match := re.fullmatch(r"/api/(\w+/.+)/commit/main(\?.*)?", self.path):
            for line in map(json.loads, body.splitlines()):
                if line["key"] == "deletedFile":
                    del self.files[match[1]][line["value"]["path"]]
                if line["key"] == "file":
                    self.files[match[1]][line["value"]["path"]] = base64.b64decode(line["value"]["content"])
            address = f"http://{self.headers['Host']}/{match[1].removeprefix('models/')}/commit/{COMMIT}"
            self.answer({"commitUrl": address, "commitOid": COMMIT})
        else:
            self.answer({"error": f"no {self.path}"}, 404)

    def do_DELETE(self) -> None:
        match = re.fullmatch(r"/api/(\w+/[^/]+/[^/]+)/tag/(.+)", self.path)
        if match and self.tags.get(match[1]) == match[2]:
            del self.tags[match[1]]
            self.answer({})
        else:
            self.answer({"error": "no such tag"}, 404, X_Error_Code="RevisionNotFound")

    def do_GET(self) -> None:
        path = self.path.partition("?")[0]
        if match := re.fullmatch(r"/api/(\w+/[^/]+/[^/]+)(/revision/\w+)?", path):
            if match[1] not in self.files:
                self.answer({"error": "not there"}, 404, X_Error_Code="RepoNotFound")
                return
            listed = [{"rfilename": name} for name in self.files[match[1]]]
            private = match[1] in self.private
            self.answer({"id": match[1].partition("/")[2], "sha": COMMIT, "siblings": listed, "private": private})
        elif match := re.fullmatch(r"/api/(\w+/[^/]+/[^/]+)/tree/\w+", path):
            files = self.files[match[1]].items()
            self.answer(
                [{"type": "file", "path": n, "size": len(x), "oid": hashlib.sha1(x).hexdigest()} for n, x in files]
            )
        elif match := re.fullmatch(r"/(datasets/)?([^/]+/[^/]+)/resolve/\w+/(.+)", path):
            content = self.files[f"{match[1] or 'models/'}{match[2]}"][match[3]]
            self.answer(content, ETag=f'"{hashlib.sha1(content).hexdigest()}"')
        else:
            self.answer({"error": f"no {path}"}, 404)

    do_HEAD = do_GET  # noqa: N815

    def log_message(self, *args: object) -> None:
        pass


@pytest.fixture
def address(tmp_path) -> Iterator[str]:
    """Of the Hub's stand-in, with nothing in it."""
    Hub.files, Hub.tags, Hub.private = {}, {}, set()
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Hub)
    thread = threading.Thread(target=server.serve_forever, args=(0.05,))
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    thread.join()
    server.server_close()


def call(address: str, *arguments: str) -> tuple[int, str]:
    """Exit code and output of `expertgen hub`, in a process of its own, because the address is read on import."""
    told = {"HF_ENDPOINT": address, "HF_TOKEN": "hf_of_nobody", "HF_HUB_DISABLE_XET": "1", "JAX_PLATFORMS": "cpu"}
    command = [sys.executable, "-m", "expertgen_jax", "hub", *arguments]
    result = subprocess.run(command, env=os.environ | told, capture_output=True, text=True, timeout=120)
    return result.returncode, result.stdout + result.stderr


def test_a_policy_goes_there_and_comes_back(address, tmp_path):
    kept = {"card.json": b"{}", "policy.jax": bytes(range(256)), "README.md": b"---\ntags: [jax]\n---\n# peg\n"}
    (tmp_path / "kit").mkdir()
    for name, content in kept.items():
        (tmp_path / "kit" / name).write_bytes(content)
    code, said = call(address, "push", str(tmp_path / "kit"), "somebody/peg")
    assert code == 0 and f"{address}/somebody/peg" in said, said
    assert Hub.files["models/somebody/peg"].items() >= kept.items()
    code, said = call(address, "pull", "somebody/peg", "--out", str(tmp_path / "back"))
    assert code == 0 and "card.json, policy.jax" in said, said
    for name, content in kept.items():
        assert (tmp_path / "back" / name).read_bytes() == content


def test_a_dataset_goes_there_and_comes_back(address, tmp_path):
    (tmp_path / "set" / "meta").mkdir(parents=True)
    (tmp_path / "set" / "meta" / "info.json").write_text('{"codebase_version": "v3.0"}')
    for _ in range(2):  # the second time the tag moves
        code, said = call(address, "push", str(tmp_path / "set"), "somebody/episodes")
        assert code == 0 and f"{address}/datasets/somebody/episodes" in said, said
        assert Hub.tags == {"datasets/somebody/episodes": "v3.0"}  # without which LeRobot does not load it
    code, said = call(address, "pull", "somebody/episodes", "--kind", "dataset", "--out", str(tmp_path / "back"))
    assert code == 0 and (tmp_path / "back" / "meta" / "info.json").read_text().startswith('{"codebase'), said


def test_another_policy_leaves_nothing_of_the_one_before_and_private_is_private(address, tmp_path):
    (tmp_path / "kit").mkdir()
    for name in ("card.json", "policy.onnx"):
        (tmp_path / "kit" / name).write_text("{}")
    code, said = call(address, "push", str(tmp_path / "kit"), "somebody/peg", "--private")
    assert code == 0 and Hub.private == {"models/somebody/peg"}, said
    (tmp_path / "kit" / "policy.onnx").unlink()
    assert call(address, "push", str(tmp_path / "kit"), "somebody/peg")[0] == 0
    assert Hub.files["models/somebody/peg"].keys() == {"card.json"}
    Hub.private.clear()
    code, said = call(address, "push", str(tmp_path / "kit"), "somebody/peg", "--private")
    assert code == 2 and "is there already, and public" in said, said


def test_what_goes_wrong_is_told_in_a_line(address, tmp_path):
    for asked in ("somebody/nothing", "not a name"):
        code, said = call(address, "pull", asked, "--out", str(tmp_path / "back"))
        last = said.strip().splitlines()[-1]
        assert code == 2 and last.startswith(f"error: {asked}: ") and "Traceback" not in said, said
    with pytest.raises(UserError, match="neither an exported policy nor a LeRobotDataset"):
        hub.push(tmp_path, "somebody/nothing")
    assert not Hub.files
