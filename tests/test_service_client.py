"""The client: standard library alone, any Python of a DCC; it finds, starts and loses services."""

import ast
import glob
import http.server
import json
import os
import select
import shutil
import signal
import socket
import socketserver
import subprocess
import sys
import threading
import types
from contextlib import contextmanager
from pathlib import Path

import psutil
import pytest
from services import PATIENCE, SLOW, alive, own_state, service, shared_service, wait_for
from shots import two_boxes

import neuralusd
from neuralusd.service import client as module
from neuralusd.service.client import (
    PROTOCOL,
    JobFailed,
    ServiceError,
    ServiceUnavailable,
    VersionMismatch,
    connect,
)

CLIENT = Path(module.__file__)
TOKEN = "alice-0123456789-0123456789"


def other_pythons():
    """Pythons of other versions than this one, that are about."""
    found = {}
    for minor in (10, 11, 12, 13, 14):
        installed = glob.glob(os.path.expanduser(f"~/.pyenv/versions/3.{minor}.*/bin/python"))
        candidates = [shutil.which(f"python3.{minor}"), *installed]
        for python in filter(None, candidates if minor != sys.version_info[1] else []):
            if subprocess.run([python, "-c", ""], capture_output=True).returncode == 0:
                found[f"3.{minor}"] = python
    return found


PYTHONS = other_pythons()


@pytest.fixture(scope="module")
def running(tmp_path_factory):
    with shared_service(tmp_path_factory.mktemp("shared") / "state", {"alice": TOKEN}) as process:
        yield process


@pytest.fixture
def shot(tmp_path):
    return two_boxes(tmp_path / "shot.usda")


@pytest.fixture
def state(tmp_path):
    """A state folder without a service, which `connect` uses; what was started in it is stopped."""
    folder = tmp_path / "state"
    with own_state(folder):
        yield folder
        try:
            connect(start=False).shutdown()
        except ServiceError:
            pass
        wait_for(lambda: not services_of(folder))


def services_of(folder):
    """The service processes with this state folder."""
    found = []
    for process in psutil.process_iter():
        try:
            command = process.cmdline()
            if "serve" in command and process.environ().get("NEURALUSD_STATE") == str(folder):
                found.append(process.pid)
        except psutil.Error:
            continue
    return found


def with_protocol(number, path):
    """A copy of the client that speaks another protocol."""
    text = CLIENT.read_text()
    said = f"\nPROTOCOL = {PROTOCOL}\n"
    assert said in text
    path.write_text(text.replace(said, f"\nPROTOCOL = {number}\n"))
    copy = types.ModuleType("another_client")
    sys.modules["another_client"] = copy
    exec(compile(path.read_text(), path, "exec"), copy.__dict__)
    return copy


@contextmanager
def service_with_protocol(number, folder):
    """A service of one's own that speaks another protocol."""
    code = (
        f"import neuralusd.service.client as c; c.PROTOCOL = {number}; from neuralusd.cli import main; main(['serve'])"
    )
    environment = {**os.environ, "NEURALUSD_STATE": str(folder)}
    process = subprocess.Popen([sys.executable, "-c", code], env=environment, stdout=subprocess.PIPE, text=True)
    try:
        assert "serves at" in process.stdout.readline()
        yield process
    finally:
        process.terminate()
        process.wait(PATIENCE)
        process.stdout.close()


class TestAnyPython:
    def test_it_imports_the_standard_library_alone(self):
        tree = ast.parse(CLIENT.read_text(), feature_version=(3, 10))
        names = set()
        for node in ast.walk(tree):
            if isinstance(node, ast.Import):
                names |= {alias.name for alias in node.names}
            elif isinstance(node, ast.ImportFrom):
                assert node.level == 0, "an extension carries this file alone"
                names.add(node.module)
        assert {name.partition(".")[0] for name in names} <= sys.stdlib_module_names
        # New in 3.11.
        assert not {"tomllib", "wsgiref.types"} & names
        attributes = [node for node in ast.walk(tree) if isinstance(node, ast.Attribute)]
        used = {(node.value.id, node.attr) for node in attributes if isinstance(node.value, ast.Name)}
        assert not used & {("datetime", "UTC"), ("contextlib", "chdir"), ("hashlib", "file_digest")}

    @pytest.mark.skipif(not PYTHONS, reason="there is no other Python")
    @pytest.mark.parametrize("version", PYTHONS)
    def test_a_copy_of_it_renders_from_another_python(self, running, shot, tmp_path, version):
        shutil.copy(CLIENT, tmp_path / "carried.py")
        code = (
            "import carried, sys\n"
            f"client = carried.connect({running.url!r}, {TOKEN!r})\n"
            f"job = client.submit('render', stage={str(shot)!r}, encode=True, steps=3)\n"
            "seen = []\n"
            "print(job.wait(seen.append, cancelled=lambda: False)['images'][0]['verb'], len(seen) > 3)\n"
            "print(job.download('image.png', 'out.png'))\n"
            "try:\n"
            "    carried.connect(start=True)\n"
            "except carried.ServiceUnavailable as error:\n"
            "    print(error.code)\n"
        )
        environment = {"NEURALUSD_STATE": str(tmp_path / "none"), "PATH": os.environ["PATH"]}
        ran = subprocess.run(
            [PYTHONS[version], "-W", "error", "-c", code], cwd=tmp_path, env=environment, capture_output=True, text=True
        )
        assert ran.stderr == ""
        assert ran.stdout.splitlines() == ["render True", str(tmp_path / "out.png"), "no_python"]


class TestVersions:
    def test_a_newer_program_says_that_the_service_is_to_be_updated(self, running, tmp_path):
        newer = with_protocol(PROTOCOL + 1, tmp_path / "newer.py")
        both = f"protocol {PROTOCOL}; this program speaks {PROTOCOL + 1}"
        with pytest.raises(newer.VersionMismatch, match=f"{both}. Update neuralusd where"):
            newer.connect(running.url, TOKEN)

    def test_an_older_program_says_that_it_is_to_be_updated(self, tmp_path, state):
        both = f"speaks protocol {PROTOCOL + 1}; this program speaks {PROTOCOL}"
        with service_with_protocol(PROTOCOL + 1, state):
            with pytest.raises(VersionMismatch, match=f"{both}. Update this program"):
                connect()

    def test_a_service_refuses_what_it_does_not_speak(self, running):
        other = {"Neuralusd-Protocol": str(PROTOCOL + 1)}
        status, headers, body = running.request("GET", "/v1/info", TOKEN, headers=other)
        assert status == 426 and json.loads(body)["error"]["code"] == "version"
        assert (headers["Neuralusd-Protocol"], headers["Neuralusd-Version"]) == (str(PROTOCOL), neuralusd.__version__)

    def test_ones_own_old_service_with_nothing_to_do_gives_way(self, tmp_path, state):
        with service_with_protocol(PROTOCOL - 1, state) as old:
            client = connect()
            assert old.wait(PATIENCE) == 0
            assert client.info()["protocol"] == PROTOCOL


class TestFinding:
    def test_one_is_started_and_found_again(self, state, shot):
        first = connect()
        assert first.local and first.version == neuralusd.__version__
        assert connect().url == first.url
        assert first.submit("encode", stage=os.path.relpath(shot)).wait()["camera"] == "/World/Cam"
        assert len(services_of(state)) == 1

    def test_however_many_ask_at_once_one_is_started(self, state):
        code = "from neuralusd.service.client import connect; print(connect().url)"
        asking = [subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True) for _ in range(6)]
        urls = {process.communicate(timeout=PATIENCE)[0].strip() for process in asking}
        assert len(urls) == 1 and urls != {""}
        assert len(services_of(state)) == 1

    def test_one_that_was_killed_is_not_found_and_another_is_started(self, state):
        first = connect()
        [pid] = services_of(state)
        os.kill(pid, signal.SIGKILL)
        wait_for(lambda: not alive(pid))
        assert (state / "service.json").exists()
        with pytest.raises(ServiceUnavailable, match="Start one: neuralusd serve"):
            connect(start=False)
        again = connect()
        assert again.info()["version"] and services_of(state) != [pid]
        # Who had the old one goes on with the new one.
        assert first.info()["version"] and first.url == again.url

    def test_the_token_is_not_told_to_who_has_the_port_by_now(self, state):
        heard = []

        class Stranger(http.server.BaseHTTPRequestHandler):
            def do_GET(self):
                heard.append((self.path, dict(self.headers)))
                said = {"service": "neuralusd", "protocol": PROTOCOL, "version": "9", "proof": "0" * 64}
                body = json.dumps(said).encode()
                self.send_response(200)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *args):
                pass

        connect()
        [pid] = services_of(state)
        os.kill(pid, signal.SIGKILL)
        wait_for(lambda: not alive(pid))
        stranger = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Stranger)
        threading.Thread(target=stranger.serve_forever, daemon=True).start()
        said = json.loads((state / "service.json").read_text())
        module.write_private(
            str(state / "service.json"), json.dumps({**said, "url": f"http://127.0.0.1:{stranger.server_port}"})
        )
        try:
            assert connect().url != f"http://127.0.0.1:{stranger.server_port}"
        finally:
            stranger.shutdown()
            stranger.server_close()
        assert heard and (state / "token").read_text().strip() not in str(heard)

    @pytest.mark.parametrize(
        "text", ["", "{", "[]", '{"url": 3}', '{"url": "ftp://x"}', '{"url": "http://127.0.0.1:1"}']
    )
    def test_a_damaged_note_is_no_service(self, state, text):
        module.make_private_folder(str(state))
        for name in ("service.json", "token"):
            module.write_private(str(state / name), text)
        with pytest.raises(ServiceUnavailable, match="No neuralusd service of yours"):
            connect(start=False)

    def test_a_note_that_others_could_have_written_is_not_believed(self, state):
        module.make_private_folder(str(state))
        module.write_private(str(state / "service.json"), "{}")
        (state / "service.json").chmod(0o666)
        with pytest.raises(ServiceError, match="can be read by others"):
            connect(start=False)

    def test_what_keeps_it_from_starting_is_said(self, state, tmp_path):
        with pytest.raises(ServiceUnavailable, match="does not run .*Name the Python that has neuralusd"):
            connect(python=str(tmp_path / "python"))
        if not PYTHONS:
            return
        with pytest.raises(ServiceUnavailable, match="did not start: .*No module named neuralusd"):
            connect(python=next(iter(PYTHONS.values())))

    def test_a_cache_is_where_results_and_models_go(self, state, tmp_path, shot):
        client = connect(cache=str(tmp_path / "cache"))
        client.submit("encode", stage=str(shot)).wait()
        assert len(list((tmp_path / "cache" / "service" / "jobs").iterdir())) == 1
        assert not (state / "jobs").exists()
        assert (tmp_path / "cache" / "service").stat().st_mode & 0o777 == 0o700


class Cutter:
    """Stands between clients and a service, and cuts every connection after so many bytes of the answer."""

    def __init__(self, url, after):
        self.after, self.cut = after, 0
        host, _, port = url.removeprefix("http://").partition(":")
        cutter = self

        class Handler(socketserver.BaseRequestHandler):
            def handle(self):
                with socket.create_connection((host, int(port))) as far:
                    cutter.pass_on(self.request, far)

        self.server = socketserver.ThreadingTCPServer(("127.0.0.1", 0), Handler)
        self.server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self.server.server_address[1]}"

    def __enter__(self):
        threading.Thread(target=self.server.serve_forever, daemon=True).start()
        return self

    def __exit__(self, *_):
        self.server.shutdown()
        self.server.server_close()

    def pass_on(self, near, far):
        left = self.after
        while left:
            for source in select.select([near, far], [], [])[0]:
                try:
                    data = source.recv(min(left, 4096))
                    (near if source is far else far).sendall(data)
                except OSError:
                    return
                if not data:
                    return
                left -= len(data) if source is far else 0
        self.cut += 1


class TestBrokenConnections:
    def test_events_go_on_where_they_broke(self, running, shot):
        client = connect(running.url, TOKEN)
        job = client.submit("render", stage=str(shot), encode=True, steps=40)
        with Cutter(running.url, 1500) as cutter:
            client.url = cutter.url
            events = list(job.events())
        assert cutter.cut >= 3
        assert [event["seq"] for event in events] == list(range(1, len(events) + 1))
        assert events[-1]["state"] == "done"

    def test_a_file_comes_whole_or_not_at_all(self, running, shot, tmp_path, monkeypatch):
        monkeypatch.setattr(module, "PATIENCE", 1.0)
        client = connect(running.url, TOKEN)
        job = client.submit("render", stage=str(shot), encode=True)
        job.wait()
        (tmp_path / "out").mkdir()
        with Cutter(running.url, 5000) as cutter:
            client.url = cutter.url
            with pytest.raises(ServiceUnavailable, match="does not answer"):
                job.download("image.png", tmp_path / "out" / "image.png")
        assert list((tmp_path / "out").iterdir()) == []
        with pytest.raises(ServiceError, match="There is no such file"):
            connect(running.url, TOKEN).job(job.id).download("nope.png", tmp_path / "out" / "image.png")
        assert list((tmp_path / "out").iterdir()) == []

    def test_a_job_that_is_asked_for_twice_is_one_job(self, running, shot):
        client = connect(running.url, TOKEN)
        sent = client.upload(shot)
        client.submit("encode", stage=sent).wait()
        before = len(client.jobs())
        # Of the answer comes so little that nobody knows whether it was one.
        with Cutter(running.url, 60) as cutter:
            client.url, direct = cutter.url, client.url

            def mend():
                wait_for(lambda: cutter.cut)
                client.url = direct

            threading.Thread(target=mend, daemon=True).start()
            client.submit("encode", stage=sent).wait()
        assert len(client.jobs()) == before + 1

    def test_a_wait_outlives_the_service(self, tmp_path, shot, monkeypatch):
        monkeypatch.setattr(module, "PATIENCE", PATIENCE)
        folder = tmp_path / "state"
        with own_state(folder):
            with service(folder) as process:
                job = process.client().submit("render", stage=str(shot), encode=True, **SLOW)
                failures = []

                def wait():
                    try:
                        job.wait()
                    except JobFailed as error:
                        failures.append(error)

                waiting = threading.Thread(target=wait)
                waiting.start()
                wait_for(lambda: job.state()["progress"]["step"] > 0)
                process.end(signal.SIGKILL)
            with service(folder):
                waiting.join(PATIENCE)
        assert [failure.code for failure in failures] == ["interrupted"]

    def test_a_service_that_is_gone_for_good_is_said_to_be(self, tmp_path, shot, monkeypatch):
        monkeypatch.setattr(module, "PATIENCE", 1.0)
        with service(tmp_path / "state") as process:
            job = process.client().submit("render", stage=str(shot), encode=True, **SLOW)
            process.end(signal.SIGKILL)
            with pytest.raises(ServiceUnavailable, match="does not answer .*Check that it runs"):
                job.wait()

    @pytest.mark.parametrize("url", ["http://127.0.0.1:1", "http://", "gpu:8750", "http://nowhere.invalid:8750"])
    def test_an_address_with_nothing_there_is_said_to_be(self, url):
        with pytest.raises(ServiceUnavailable, match="does not answer|is no address of a service"):
            connect(url, TOKEN, timeout=0.1)

    def test_a_url_needs_a_token(self, running, monkeypatch):
        monkeypatch.delenv("NEURALUSD_TOKEN", raising=False)
        with pytest.raises(ServiceError, match="wants a token"):
            connect(running.url)
        monkeypatch.setenv("NEURALUSD_TOKEN", TOKEN)
        assert not connect(running.url).local


def test_uploads_say_how_far_they_are_and_can_be_stopped(running, tmp_path):
    client = connect(running.url, TOKEN)
    large = tmp_path / "large.usda"
    large.write_bytes(b"#usda 1.0\n" + b"# more\n" * 1_000_000)
    seen = []
    assert client.upload(large, lambda sent, size: seen.append((sent, size))).startswith("upload:")
    assert seen[-1] == (large.stat().st_size,) * 2 and len(seen) > 3
    with pytest.raises(module.JobCancelled):
        client.upload(large, lambda sent, size: True)


def test_a_service_whose_installation_is_deleted_goes_quietly(tmp_path):
    skipped = shutil.ignore_patterns("weights", "demo", "__pycache__")
    shutil.copytree(Path(neuralusd.__file__).parent, tmp_path / "package" / "neuralusd", ignore=skipped)
    shutil.copytree(Path(neuralusd.__file__).parents[1] / "usdschemas", tmp_path / "package" / "usdschemas")
    with service(tmp_path / "state", package=tmp_path / "package") as process:
        worker = process.worker()
        shutil.rmtree(tmp_path / "package")
        assert process.process.wait(PATIENCE) == 0
        said = process.process.stdout.read()
    assert "its installation is gone" in said and "Traceback" not in said.split("worker:")[0]
    assert not alive(worker) and not (tmp_path / "state" / "service.json").exists()


@pytest.mark.skipif(shutil.which("openssl") is None, reason="openssl makes the certificate")
def test_with_a_certificate_nothing_travels_in_the_clear(tmp_path, monkeypatch):
    files = tmp_path / "key.pem", tmp_path / "certificate.pem"
    command = (
        "openssl req -x509 -newkey rsa:2048 -nodes -days 2 -subj /CN=localhost -addext subjectAltName=IP:127.0.0.1"
    )
    subprocess.run([*command.split(), "-keyout", files[0], "-out", files[1]], check=True, capture_output=True)
    options = "--certificate", str(files[1]), "--key", str(files[0])
    with shared_service(tmp_path / "state", {"alice": TOKEN}, *options) as process:
        assert process.url.startswith("https://")
        with pytest.raises(ServiceUnavailable, match="cannot be trusted"):
            connect(process.url, TOKEN, timeout=0.1)
        monkeypatch.setenv("SSL_CERT_FILE", str(files[1]))
        assert connect(process.url, TOKEN).info()["protocol"] == PROTOCOL
