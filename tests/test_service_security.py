"""A shared service refuses what it should: from strangers, from web pages, and from its own users."""

import json
import os
import socket
import stat
import struct
import zipfile
import zlib
from io import BytesIO
from pathlib import Path
from urllib.parse import quote

import numpy as np
import pytest
from services import PATIENCE, package, service, shared_service, wait_for
from shots import two_boxes
from tiny_backend import save_tiny_backend

from neuralusd.cli import main
from neuralusd.service.client import JobFailed, ServiceError, connect
from neuralusd.service.confine import OutsideError, check_stage

ALICE, BOB = "alice-0123456789-0123456789", "bob-0123456789-0123456789"
JSON = {"Content-Type": "application/json"}


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    """A folder that jobs may read, with a stage, and beside it a secret that they may not."""
    folder = tmp_path_factory.mktemp("server")
    (folder / "root").mkdir()
    two_boxes(folder / "root" / "shot.usda")
    two_boxes(folder / "secret.usda")
    (folder / "root" / "link.usda").symlink_to(folder / "secret.usda")
    (folder / "root" / "folder").symlink_to(folder)
    return folder / "root"


@pytest.fixture(scope="module")
def running(tmp_path_factory, root):
    state = tmp_path_factory.mktemp("shared") / "state"
    with shared_service(state, {"alice": ALICE, "bob": BOB}, "--root", str(root), "--max-upload", "5") as process:
        yield process


@pytest.fixture
def alice(running):
    return running.client(ALICE)


def uploads(running):
    return [name for folder in Path(running.folder).rglob("uploads") for name in os.listdir(folder)]


def png(width, height, extra=b""):
    """A PNG that says that it has so many pixels, and is some bytes long."""

    def chunk(kind, data):
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + header + chunk(b"IDAT", zlib.compress(bytes(1000)) + extra) + chunk(b"IEND", b"")


ROUTES = [
    ("GET", "/v1/info"),
    ("GET", "/v1/jobs"),
    ("POST", "/v1/jobs"),
    ("GET", "/v1/jobs/x"),
    ("DELETE", "/v1/jobs/x"),
    ("POST", "/v1/jobs/x/cancel"),
    ("GET", "/v1/jobs/x/events"),
    ("GET", "/v1/jobs/x/preview"),
    ("GET", "/v1/jobs/x/files/image.png"),
    ("POST", "/v1/uploads?name=a.usdz"),
    ("DELETE", "/v1/uploads/x"),
    ("POST", "/v1/shutdown"),
    ("GET", "/v1/openapi.json"),
    ("GET", "/docs"),
    ("GET", "/"),
]


class TestTokens:
    @pytest.mark.parametrize("token", [None, "", "wrong", ALICE[:-1], ALICE + "0", "é" * 20])
    @pytest.mark.parametrize(("method", "path"), ROUTES)
    def test_nothing_is_done_without_the_right_one(self, running, method, path, token):
        sent = None if token is None else token.encode().decode("latin-1")
        status, headers, body = running.request(method, path, sent, body=b"{}")
        assert status == 401 and headers["WWW-Authenticate"] == "Bearer"
        assert json.loads(body)["error"]["code"] == "unauthorized"

    def test_that_it_is_there_is_all_that_a_stranger_learns(self, running):
        status, _, body = running.request("GET", "/v1/health?challenge=abc")
        assert status == 200 and sorted(json.loads(body)) == ["protocol", "service", "version"]

    def test_the_client_says_what_to_do(self, running):
        with pytest.raises(ServiceError, match="token is missing or wrong. Ask whoever runs this service"):
            connect(running.url, "wrong")

    def test_nobody_but_its_owner_finds_a_job_or_an_upload(self, running, alice, root):
        job = alice.submit("encode", stage=str(root / "shot.usda"))
        job.wait()
        sent = alice.upload(root / "shot.usda")
        bob = running.client(BOB)
        for method, path in (
            ("GET", ""),
            ("DELETE", ""),
            ("POST", "/cancel"),
            ("GET", "/events"),
            ("GET", "/preview"),
            ("GET", "/files/tokens.usdc"),
        ):
            theirs, nobodys = (running.request(method, f"/v1/jobs/{i}{path}", BOB, body=b"{}") for i in (job.id, "x"))
            assert theirs[0] == nobodys[0] == 404 and theirs[2] == nobodys[2]
        assert bob.jobs() == []
        with pytest.raises(ServiceError, match="no such upload, or it is not yours"):
            bob.submit("encode", stage=sent)
        assert job.state()["state"] == "done"
        assert len(job.id) >= 24

    def test_a_file_of_tokens_that_others_can_read_is_refused(self, tmp_path, capsys):
        tokens = tmp_path / "tokens"
        assert main(["serve", "--tokens", str(tokens), "--new-token", "carol"]) == 0
        token = capsys.readouterr().out.strip()
        assert stat.S_IMODE(tokens.stat().st_mode) == 0o600 and f"carol {token}" in tokens.read_text()
        assert main(["serve", "--tokens", str(tokens), "--new-token", "carol"]) == 1
        tokens.chmod(0o640)
        assert main(["serve", "--host", "127.0.0.1", "--tokens", str(tokens)]) == 1
        assert "can be read by others" in capsys.readouterr().err

    @pytest.mark.parametrize(
        ("text", "says"),
        [
            ("", "has no tokens"),
            ("alice short\n", "less than 20 characters"),
            (f"alice {ALICE}\nbob {ALICE}\n", "there twice"),
            ("alice\n", "line 1: not of the form"),
        ],
    )
    def test_a_file_of_tokens_that_is_wrong_says_where(self, tmp_path, capsys, text, says):
        tokens = tmp_path / "tokens"
        tokens.write_text(text)
        tokens.chmod(0o600)
        assert main(["serve", "--host", "127.0.0.1", "--tokens", str(tokens)]) == 1
        assert says in capsys.readouterr().err

    def test_a_shared_service_without_tokens_does_not_start(self, capsys):
        assert main(["serve", "--host", "127.0.0.1"]) == 2
        assert "--host needs --tokens" in capsys.readouterr().err

    def test_a_new_user_needs_no_restart(self, running, tmp_path):
        carol = "carol-0123456789-0123456789"
        assert running.request("GET", "/v1/info", carol)[0] == 401
        tokens = running.folder.parent / f"{running.folder.name}.tokens"
        tokens.write_text(tokens.read_text() + f"carol {carol}\n")
        assert running.request("GET", "/v1/info", carol)[0] == 200


class TestWebPages:
    @pytest.mark.parametrize("host", ["evil.example", "127.0.0.1.evil.example", "localhost.evil.example:80", "", "x]"])
    def test_a_name_that_was_bound_to_this_machine_is_not_answered(self, running, host):
        for token, path in ((ALICE, "/v1/info"), (None, "/v1/health")):
            status, _, body = running.request("GET", path, token, headers={"Host": host})
            assert status in (400, 421) and b"version" not in body

    @pytest.mark.parametrize("host", ["localhost", "127.0.0.1:99", "[::1]:8750", "LOCALHOST.", "10.1.2.3"])
    def test_its_own_names_and_numbers_are(self, running, host):
        assert running.request("GET", "/v1/info", ALICE, headers={"Host": host})[0] == 200

    def test_ones_own_service_answers_to_loopback_alone(self, tmp_path):
        with service(tmp_path / "state") as process:
            token = (tmp_path / "state" / "token").read_text().strip()
            assert process.request("GET", "/v1/info", token, headers={"Host": "localhost"})[0] == 200
            for host in ("10.1.2.3", socket.gethostname() + ".evil.example"):
                assert process.request("GET", "/v1/info", token, headers={"Host": host})[0] == 421

    @pytest.mark.parametrize(
        "headers", [{"Origin": "http://evil.example"}, {"Origin": "null"}, {"Sec-Fetch-Site": "cross-site"}]
    )
    def test_pages_are_refused_even_with_the_token(self, running, headers):
        for method in ("GET", "OPTIONS", "POST"):
            status, answered, _ = running.request(method, "/v1/jobs", ALICE, body=b"{}", headers=headers)
            assert status == 403
            assert not [name for name in answered if name.lower().startswith("access-control")]

    def test_no_answer_allows_another_origin(self, running):
        preflight = {"Access-Control-Request-Method": "GET", "Access-Control-Request-Headers": "authorization"}
        for method, path in (("OPTIONS", "/v1/info"), ("GET", "/v1/info"), ("GET", "/v1/health")):
            _, answered, _ = running.request(method, path, ALICE, headers=preflight)
            assert not [name for name in answered if name.lower().startswith("access-control")]


class TestBodies:
    def flood(self, running, headers, block):
        """Sends blocks until it is stopped or has sent 10 GB; returns what was answered and how much was sent."""
        address, _, port = running.url.removeprefix("http://").partition(":")
        answer, sent = b"", 0
        with socket.create_connection((address, int(port)), timeout=PATIENCE) as connection:
            lines = [f"Host: {address}", f"Authorization: Bearer {ALICE}", *headers]
            connection.sendall(("POST /v1/uploads?name=a.usdz HTTP/1.1\r\n" + "\r\n".join(lines) + "\r\n\r\n").encode())
            try:
                while sent < 10_000_000_000:
                    connection.sendall(block)
                    sent += len(block)
            except (BrokenPipeError, ConnectionResetError):
                pass
            try:
                while more := connection.recv(65536):
                    answer += more
            except ConnectionResetError:
                pass
        return answer, sent

    def test_ten_gigabytes_are_refused_before_they_come(self, running):
        before = uploads(running)
        answer, sent = self.flood(running, ["Content-Length: 10000000000"], bytes(1 << 16))
        assert sent < 50_000_000 and uploads(running) == before
        assert not answer or b" 413 " in answer.splitlines()[0]

    def test_ten_gigabytes_that_do_not_say_so_are_cut_off(self, running):
        block = b"%x\r\n" % (1 << 16) + bytes(1 << 16) + b"\r\n"
        before = uploads(running)
        answer, sent = self.flood(running, ["Transfer-Encoding: chunked"], block)
        assert sent < 50_000_000 and uploads(running) == before
        assert not answer or b" 413 " in answer.splitlines()[0]

    def test_the_client_says_that_it_is_too_much(self, alice, tmp_path):
        with open(tmp_path / "large.usdz", "wb") as file:
            file.truncate(6_000_000)
        with pytest.raises(ServiceError, match="More than 5 MB are not taken here") as refused:
            alice.upload(tmp_path / "large.usdz")
        assert refused.value.code == "too_large"

    @pytest.mark.parametrize("token, status", [(ALICE, 413), ("wrong", 401)])
    def test_a_large_request_for_a_job_is_refused_and_the_answer_arrives(self, running, token, status):
        for _ in range(5):  # the answer comes before all is sent, and sending must not break over it
            answer, _, body = running.request("POST", "/v1/jobs", token, body=b" " * 2_000_000)
            assert answer == status and json.loads(body)["error"]["code"] in ("too_large", "unauthorized")

    def test_a_refused_body_that_never_comes_is_not_waited_for(self, running):
        address, _, port = running.url.removeprefix("http://").partition(":")
        with socket.create_connection((address, int(port)), timeout=PATIENCE) as connection:
            lines = f"Host: {address}\r\nAuthorization: Bearer {ALICE}\r\nContent-Length: 2000000\r\n\r\n"
            connection.sendall(f"POST /v1/jobs HTTP/1.1\r\n{lines}".encode())
            assert b" 413 " in connection.makefile("rb").readline()

    @pytest.mark.parametrize(
        "body", [b"", b"{", b"[]", b"null", b'{"verb": 3}', b"[" * 100_000, b"\xff\xfe", b'{"a": NaN}']
    )
    def test_nonsense_is_answered_with_a_sentence(self, running, body):
        status, _, said = running.request("POST", "/v1/jobs", ALICE, body=body, headers=JSON)
        assert status == 400 and json.loads(said)["error"]["message"]

    def test_an_upload_that_breaks_off_leaves_nothing(self, running):
        before = set(uploads(running))
        address, _, port = running.url.removeprefix("http://").partition(":")
        with socket.create_connection((address, int(port))) as connection:
            lines = f"Host: {address}\r\nAuthorization: Bearer {ALICE}\r\nContent-Length: 1000000\r\n\r\n"
            connection.sendall(f"POST /v1/uploads?name=a.usda HTTP/1.1\r\n{lines}#usda 1.0\n".encode())
            during = wait_for(lambda: set(uploads(running)) - before)
        wait_for(lambda: not during & set(uploads(running)))


def deflated(path, shot):
    """The zip bomb: a layer that is a thousand times as large as the file."""
    layer = shot.with_name("bomb.usda")
    layer.write_bytes(b"#usda 1.0\n" + b"#" * 4_000_000)
    package(path, layer, compression=zipfile.ZIP_DEFLATED)


def overlapping(path, shot):
    """Ten entries, each of which holds the next: ten times as much as the file."""
    data, entries = b"#usda 1.0\n" + b"#" * 1_000_000, []
    for number in reversed(range(10)):
        name = f"{number}.usda".encode()
        head = struct.pack("<HHHHHIIIH", 20, 0, 0, 0, 0, zlib.crc32(data), len(data), len(data), len(name))
        entries.append((name, head, len(data)))
        data = b"PK\x03\x04" + head + b"\0\0" + name + data
    directory = b""
    for name, head, size in reversed(entries):
        place = len(data) - size - len(name) - 30
        directory += b"PK\x01\x02\x14\0" + head + bytes(12) + struct.pack("<I", place) + name
    end = struct.pack("<HHHHIIH", 0, 0, 10, 10, len(directory), len(data), 0)
    path.write_bytes(data + directory + b"PK\x05\x06" + end)


def escaping(path, shot):
    with zipfile.ZipFile(path, "w") as archive:
        archive.write(shot, "shot.usda")
        archive.writestr("../../../outside.usda", "#usda 1.0\n")


def lying(path, shot):
    """Stored by its directory, compressed by what stands before the entry."""
    package(path, shot)
    data = bytearray(path.read_bytes())
    struct.pack_into("<H", data, 8, 8)
    path.write_bytes(bytes(data))


def no_layer_first(path, shot):
    note = shot.with_name("note.txt")
    note.write_text("hello")
    package(path, note, shot)


def with_a_bomb(path, shot):
    picture = shot.with_name("bomb.png")
    picture.write_bytes(png(60_000, 60_000))
    package(path, shot, picture)


class TestUploads:
    @pytest.mark.parametrize(
        ("build", "says"),
        [
            (deflated, "is compressed"),
            (overlapping, "larger than itself"),
            (escaping, "leads out of it"),
            (lying, "contradicts"),
            (no_layer_first, "not a layer"),
            (with_a_bomb, "megapixels"),
            (lambda path, shot: path.write_bytes(b"PK\x03\x04 and no more"), "no proper .usdz"),
            (lambda path, shot: path.write_bytes(b""), "empty"),
        ],
    )
    def test_a_package_that_would_do_harm_is_not_kept(self, running, alice, tmp_path, build, says):
        before = uploads(running)
        build(tmp_path / "evil.usdz", two_boxes(tmp_path / "shot.usda"))
        with pytest.raises(ServiceError, match=says):
            alice.upload(tmp_path / "evil.usdz")
        assert uploads(running) == before

    @pytest.mark.parametrize(
        ("name", "data", "says"),
        [
            ("bomb.png", png(60_000, 60_000), "megapixels"),
            ("bomb.png", png(20_000, 20_000), "megapixels"),
            ("no.png", b"hello", "not a picture"),
            ("weights.bin", b"\x80\x04.", "no kind of file that jobs read.*Weights are never uploaded"),
            ("weights.safetensors", b"\0" * 8, "Weights are never uploaded"),
            ("code.py", b"import os", "no kind of file"),
            ("stage.usda", b"hello", "is not USD"),
            ("stage.usdc", b"PK\x03\x04", "name it .usdz"),
        ],
    )
    def test_other_files_are_what_they_say(self, alice, tmp_path, name, data, says):
        (tmp_path / name).write_bytes(data)
        with pytest.raises(ServiceError, match=says):
            alice.upload(tmp_path / name)

    def test_an_array_of_pickled_objects_is_never_read(self, alice, tmp_path):
        np.save(tmp_path / "depth.npy", np.array([{"a": 1}], dtype=object))
        with pytest.raises(ServiceError, match="pickled objects, which are never read"):
            alice.upload(tmp_path / "depth.npy")
        header = BytesIO()
        np.lib.format.write_array_header_1_0(header, {"descr": "<f8", "fortran_order": False, "shape": (10**6, 10**6)})
        (tmp_path / "huge.npy").write_bytes(header.getvalue())
        with pytest.raises(ServiceError, match="not a whole NumPy array"):
            alice.upload(tmp_path / "huge.npy")

    @pytest.mark.parametrize(
        "name", ["../../x.usda", "..\\..\\x.usda", "/etc/x.usda", ".usda", "a/../../b.usda", "a\0.usda"]
    )
    def test_a_name_leads_nowhere(self, running, name):
        status, _, body = running.request("POST", f"/v1/uploads?name={quote(name)}", ALICE, body=b"#usda 1.0\n")
        identifier = json.loads(body).get("id", "").removeprefix("upload:")
        assert status in (201, 415)
        if status == 201:
            [folder] = [path for path in running.folder.rglob(identifier) if path.is_dir()]
            assert sorted(path.suffix for path in folder.iterdir()) == [".json", ".usda"]

    def test_a_package_with_everything_in_it_is_rendered(self, alice, tmp_path):
        shot = package(tmp_path / "shot one.usdz", two_boxes(tmp_path / "shot.usda"))
        job = alice.submit("render", stage=str(shot), encode=True)
        assert job.wait()["images"][0]["stage"] == "shot one.usdz"
        edit = alice.submit("edit", stage=str(shot), move={"/World/Cup": [1, 0, 0]})
        assert edit.wait()["base"] == "./shot one.usdz"
        text = Path(edit.download("edit.usda", tmp_path / "edit.usda")).read_text()
        assert "@./shot one.usdz@" in text and str(alice.url) not in text and "uploads" not in text


class TestPlaces:
    @pytest.mark.parametrize("path", ["{root}/shot.usda", "root:shot.usda", "root:./shot.usda"])
    def test_what_is_below_the_root_is_read(self, running, alice, root, path):
        body = {"verb": "encode", "arguments": {"stage": path.format(root=root)}}
        status, _, said = running.request(
            "POST", "/v1/jobs", ALICE, body=body, headers={"Content-Type": "application/json"}
        )
        assert status == 201
        assert alice.job(json.loads(said)["id"]).wait()["camera"] == "/World/Cam"

    @pytest.mark.parametrize(
        "path",
        ["/etc/passwd", "root:../secret.usda", "root:/etc/passwd", "root:link.usda", "root:folder/secret.usda",
         "{root}/../secret.usda", "../secret.usda", "root:", "~/x.usda"],
    )  # fmt: skip
    def test_what_is_not_is_refused(self, running, root, path):
        body = {"verb": "encode", "arguments": {"stage": path.format(root=root)}}
        status, _, said = running.request(
            "POST", "/v1/jobs", ALICE, body=body, headers={"Content-Type": "application/json"}
        )
        if path in ("root:", "~/x.usda"):  # the root itself, and a folder named ~ below it: nothing there to open
            assert status == 201
            return
        assert status == 403 and json.loads(said)["error"]["code"] == "outside_root"

    def test_without_a_root_nothing_is(self, tmp_path, root):
        with shared_service(tmp_path / "state", {"alice": ALICE}) as process:
            body = {"verb": "encode", "arguments": {"stage": str(root / "shot.usda")}}
            status, _, said = process.request("POST", "/v1/jobs", ALICE, body=body, headers=JSON)
            assert status == 403 and b"reads no files of its machine" in said

    @pytest.mark.parametrize("name", ["../job.json", "..%2Fjob.json", "%2e%2e/job.json", "job.json", "tokens.usdc%00"])
    def test_only_files_of_the_result_are_given_out(self, running, alice, root, name):
        job = alice.submit("encode", stage=str(root / "shot.usda"))
        job.wait()
        assert running.request("GET", f"/v1/jobs/{job.id}/files/tokens.usdc", ALICE)[0] == 200
        status, _, body = running.request("GET", f"/v1/jobs/{job.id}/files/{name}", ALICE)
        assert status in (400, 404) and b"owner" not in body

    def test_an_upload_cannot_make_the_service_read_its_files(self, alice, root, tmp_path):
        layer = tmp_path / "evil.usda"
        layer.write_text(f'#usda 1.0\ndef "World" (references = @{root.parent}/secret.usda@</World>) {{}}\n')
        with pytest.raises(JobFailed, match="lies outside of what this service may read") as failure:
            alice.submit("encode", stage=str(package(tmp_path / "evil.usdz", layer))).wait()
        assert failure.value.code == "OutsideError"
        donor = tmp_path / "donor.usda"
        two_boxes(tmp_path / "mine.usda")
        donor.write_text(layer.read_text())
        with pytest.raises(JobFailed, match="lies outside"):
            edits = {"/World/Cup": f"{donor}:/World"}
            alice.submit("edit", stage=str(tmp_path / "mine.usda"), appearance=edits).wait()

    def test_one_users_upload_cannot_read_anothers(self, running, alice, tmp_path, root):
        sent = alice.upload(root / "shot.usda").removeprefix("upload:")
        [theirs] = [path for path in running.folder.rglob(f"{sent}/*.usda")]
        evil = tmp_path / "evil.usda"
        evil.write_text(f'#usda 1.0\ndef "World" (references = @../{sent}/{theirs.name}@</World>) {{}}\n')
        with pytest.raises(JobFailed, match="lies outside"):
            running.client(BOB).submit("encode", stage=str(evil)).wait()


HEAD = '#usda 1.0\n(\n defaultPrim = "W"\n {layer}\n)\ndef Xform "W" (\n {prim}\n)\n{{\n {body}\n}}\n'
OUTSIDE = {
    "an absolute reference": {"prim": "references = @{out}/secret.usda@"},
    "a reference upwards": {"prim": "references = @../out/secret.usda@"},
    "a reference that a list takes away": {"prim": "prepend references = @../out/secret.usda@"},
    "a link": {"prim": "payload = @./link.usda@"},
    "a linked folder": {"prim": "payload = @./linked/secret.usda@"},
    "a sublayer": {"layer": "subLayers = [@../out/secret.usda@]"},
    "a texture": {"body": "asset t = @/etc/passwd@"},
    "a texture at some time": {"body": "asset t.timeSamples = {{ 1: @a.png@, 2: @/etc/passwd@ }}"},
    "one texture of several": {"body": "asset[] t = [@a.png@, @/etc/passwd@]"},
    "tiles of a texture": {"body": "asset t = @../out/t.<UDIM>.png@"},
    "linked tiles of a texture": {"body": "asset t = @./tile.<UDIM>.png@"},
    "an expression": {"prim": 'references = @`"${{A}}"`@</W>', "layer": 'expressionVariables = {{string A = "x"}}'},
    "an address": {"prim": "references = @http://example.com/y.usd@</W>"},
    "clips": {"prim": "clips = {{ dictionary d = {{ asset[] assetPaths = [@../out/c.usda@] }} }}"},
    "a template of clips": {"prim": 'clips = {{ dictionary d = {{ string templateAssetPath = "../out/c.#.usda" }} }}'},
    "the stage that it edits": {"layer": 'customLayerData = {{ string "neuralusd:base" = "../out/secret.usda" }}'},
    "a variant that is not chosen": {
        "prim": 'variants = {{ string v = "a" }}\n add variantSets = "v"',
        "body": 'variantSet "v" = {{ "a" {{\n }}\n "b" ( references = @../out/secret.usda@ ) {{\n }}\n }}',
    },
    "what a layer refers to that it refers to": {"prim": "references = @./deep.usda@</X>"},
    "what leads out of a package": {"prim": "references = @./package.usdz[../../x.usda]@</W>"},
    "a texture of a MaterialX document": {"prim": "references = @./material.mtlx@</MaterialX>"},
}
INSIDE = {
    "a layer beside it": {"prim": "references = @leaf.usda@"},
    "a layer in a package": {"prim": "references = @./package.usdz[leaf.usda]@"},
    "what is not there": {"prim": "references = @./nowhere.usda@"},
    "a note of where it came from": {
        "prim": "assetInfo = {{ asset identifier = @/show/x.usd@ }}",
        "body": "asset neural:tokens:appearance:source = @/home/artist/photo.png@",
    },
}


@pytest.fixture
def place(tmp_path):
    """A folder with what the stages of `OUTSIDE` and `INSIDE` refer to."""
    inside, outside = tmp_path / "in", tmp_path / "out"
    inside.mkdir()
    outside.mkdir()
    (outside / "secret.usda").write_text('#usda 1.0\ndef Cube "S" {\n}\n')
    (outside / "t.1001.png").write_bytes(b"")
    (inside / "link.usda").symlink_to(outside / "secret.usda")
    (inside / "linked").symlink_to(outside)
    (inside / "tile.1001.png").symlink_to(outside / "t.1001.png")
    (inside / "leaf.usda").write_text('#usda 1.0\n(defaultPrim = "L")\ndef Cube "L" {\n}\n')
    (inside / "deep.usda").write_text('#usda 1.0\ndef "X" (references = @../out/secret.usda@) {\n}\n')
    package(inside / "package.usdz", inside / "leaf.usda")
    image = '<image name="i" type="color3"><input name="file" type="filename" value="passwd"/></image>'
    (inside / "material.mtlx").write_text(f'<materialx fileprefix="/etc/">{image}</materialx>')
    return inside


def stage_with(place, parts):
    filled = {name: parts.get(name, "").format(out=place.parent / "out") for name in ("layer", "prim", "body")}
    path = place / "stage.usda"
    path.write_text(HEAD.format(**filled))
    return path


class TestWhatAStageRefersTo:
    @pytest.mark.parametrize("what", OUTSIDE)
    def test_nothing_leads_out(self, place, what):
        path = stage_with(place, OUTSIDE[what])
        with pytest.raises(OutsideError, match="stage.usda refers to"):
            check_stage(str(path), [str(place)])

    @pytest.mark.parametrize("what", sorted(set(OUTSIDE) - {"a link", "a linked folder", "linked tiles of a texture"}))
    def test_nothing_leads_out_of_a_package(self, place, what):
        path = package(
            place / "stage.usdz", stage_with(place, OUTSIDE[what]), place / "deep.usda", place / "material.mtlx"
        )
        with pytest.raises(OutsideError, match="stage.usdz refers to"):
            check_stage(str(path), [str(place)])

    @pytest.mark.parametrize("what", INSIDE)
    def test_what_stays_within_is_no_matter(self, place, what):
        path = stage_with(place, INSIDE[what])
        check_stage(str(path), [str(place)])
        check_stage(str(package(place / "stage.usdz", path, place / "leaf.usda")), [str(place)])


class Payload:
    """What runs when it is unpickled."""

    def __init__(self, marker):
        self.marker = marker

    def __reduce__(self):
        return os.mkdir, (self.marker,)


class TestWeights:
    def test_a_pickle_is_never_opened(self, tmp_path):
        import pickle

        backend = save_tiny_backend(tmp_path / "weights")
        for weights in list(backend.rglob("*.safetensors")):
            marker = str(tmp_path / f"ran-{weights.parent.name}")
            weights.with_suffix(".bin").write_bytes(pickle.dumps(Payload(marker)))
            weights.unlink()
        shot = two_boxes(tmp_path / "shot.usda")
        with service(tmp_path / "state") as process:
            with pytest.raises(JobFailed, match="loads safetensors") as failure:
                process.client().submit("render", stage=str(shot), encode=True, backend=str(backend)).wait()
        assert failure.value.code == "BackendError"
        assert not list(tmp_path.glob("ran-*"))

    def test_a_shared_service_uses_what_it_was_told_to(self, running, alice, root, tmp_path):
        assert alice.info()["backends"] == ["mini", "mini-rooms"]
        for name in ("owner/model", str(tmp_path), "root:", "../x"):
            with pytest.raises(ServiceError, match="not among the weights that this service uses: mini"):
                alice.submit("encode", stage="root:shot.usda", backend=name)
        with pytest.raises(ServiceError, match="detector: 'owner/model' is not among"):
            alice.submit("encode_photo", image="root:photo.png", detector="owner/model")


def test_a_bomb_on_ones_own_disk_is_refused_too(tmp_path):
    (tmp_path / "bomb.png").write_bytes(png(15_000, 14_000))
    shot = two_boxes(tmp_path / "shot.usda")
    with service(tmp_path / "state") as process:
        client, worker = process.client(), process.worker()
        with pytest.raises(JobFailed, match="too large to be opened safely"):
            client.submit("encode", stage=str(shot), image=str(tmp_path / "bomb.png")).wait()
        assert process.worker() == worker


def test_what_lets_somebody_in_can_be_read_by_its_user_alone(tmp_path):
    state = tmp_path / "state"
    with service(state):
        assert stat.S_IMODE(state.stat().st_mode) == 0o700
        for name in ("token", "service.json", "service.lock"):
            assert stat.S_IMODE((state / name).stat().st_mode) == 0o600
        token = (state / "token").read_text()
    (state / "token").chmod(0o644)  # by now others may know it
    with service(state) as process:
        assert (state / "token").read_text() != token
        assert stat.S_IMODE((state / "token").stat().st_mode) == 0o600
        assert process.request("GET", "/v1/info", token.strip())[0] == 401
