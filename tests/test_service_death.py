"""What happens to jobs when a worker or a service dies, is stopped, or grows old."""

import os
import signal

import pytest
from services import PATIENCE, SLOW, alive, own_state, service, started, wait_for
from shots import two_boxes

from neuralusd.cli import main
from neuralusd.service.client import JobCancelled, JobFailed, ServiceError, connect


@pytest.fixture(scope="module")
def running(tmp_path_factory):
    """A service of one's own whose worker dies now and then."""
    with service(tmp_path_factory.mktemp("own") / "state", "--cancel-after", "2") as process:
        yield process


@pytest.fixture
def client(running):
    return running.client()


@pytest.fixture
def shot(tmp_path):
    return two_boxes(tmp_path / "shot.usda")


class TestDeath:
    def test_a_worker_that_does_not_answer_is_replaced(self, running, client, shot):
        job = started(client.submit("render", stage=str(shot), encode=True, **SLOW))
        worker = running.worker()
        os.kill(worker, signal.SIGSTOP)
        job.cancel()
        with pytest.raises(JobCancelled, match="did not stop within 2 seconds"):
            job.wait()
        assert client.submit("render", stage=str(shot), encode=True).wait()
        assert running.worker() != worker and not alive(worker)

    def test_a_worker_that_is_killed_fails_its_job_and_nothing_else(self, running, client, shot):
        done = client.submit("render", stage=str(shot), encode=True)
        done.wait()
        struck = started(client.submit("render", stage=str(shot), encode=True, **SLOW))
        after = client.submit("render", stage=str(shot), encode=True)
        os.kill(running.worker(), signal.SIGKILL)
        with pytest.raises(JobFailed, match="killed by signal 9.*memory") as failure:
            struck.wait()
        assert failure.value.code == "worker_died"
        assert after.wait()["images"]
        assert done.state()["state"] == "done"

    def test_a_worker_that_dies_with_nothing_to_do_costs_nobody_a_job(self, running, client, shot):
        client.submit("render", stage=str(shot), encode=True).wait()
        os.kill(running.worker(), signal.SIGKILL)
        assert client.submit("render", stage=str(shot), encode=True).wait()["images"]

    def test_a_worker_that_takes_too_much_memory_is_ended_with_that_reason(self, tmp_path, shot):
        with service(tmp_path / "state", "--worker-memory", "0.1") as process:
            with pytest.raises(JobFailed, match="GB of memory, more than the 0.1 GB that it may"):
                process.client().submit("render", stage=str(shot), encode=True, **SLOW).wait()

    def test_a_service_that_is_stopped_ends_its_worker_and_says_so_of_its_jobs(self, tmp_path, shot):
        state = tmp_path / "state"
        with service(state) as process:
            client, worker = process.client(), process.worker()
            job = started(client.submit("render", stage=str(shot), encode=True, **SLOW))
            waiting = client.submit("render", stage=str(shot))
            assert process.end(signal.SIGTERM).strip().endswith("stopped: of SIGTERM")
            assert process.process.returncode == 0
        assert not alive(worker) and not (state / "service.json").exists()
        with service(state) as process:
            states = {found["id"]: found for found in process.client().jobs()}
            assert {found["state"] for found in states.values()} == {"failed"}
            assert "stopped while this job ran" in states[job.id]["error"]["message"]
            assert "stopped before this job began" in states[waiting.id]["error"]["message"]
            worker = process.worker()
            assert process.end(signal.SIGINT).strip().endswith("stopped: of SIGINT")
            assert process.process.returncode == 0 and not alive(worker)

    def test_a_service_that_is_killed_takes_its_worker_along_and_knows_its_jobs_afterwards(self, tmp_path, shot):
        state = tmp_path / "state"
        with service(state) as process:
            client, worker = process.client(), process.worker()
            done = client.submit("render", stage=str(shot), encode=True)
            result = done.wait()
            struck = started(client.submit("render", stage=str(shot), encode=True, **SLOW))
            process.end(signal.SIGKILL)
            wait_for(lambda: not alive(worker))
        with service(state) as process:
            again = process.client()
            assert [job["id"] for job in again.jobs()] == [struck.id, done.id]
            with pytest.raises(JobFailed, match="ended while this job ran. Submit it again"):
                again.job(struck.id).wait()
            assert again.job(done.id).wait() == result
            assert again.job(done.id).download("image.png", tmp_path / "late.png")

    def test_what_is_old_or_too_much_is_deleted(self, tmp_path, shot):
        def kept():
            return [name for kind in ("jobs", "uploads") for name in os.listdir(tmp_path / "state" / kind)]

        # 0.0005 hours are not quite two seconds.
        with service(tmp_path / "state", "--keep", "0.0005") as process:
            client = process.client()
            job = client.submit("edit", stage=str(shot), move={"/World/Cup": [1, 0, 0]})
            sent = client.upload(shot)
            assert kept()
            wait_for(lambda: not client.jobs() and not kept())
            with pytest.raises(ServiceError, match="no such job"):
                job.state()
            with pytest.raises(ServiceError, match="no such upload"):
                client.submit("encode", stage=sent)
            assert not kept()

    def test_a_service_that_nobody_uses_stops_by_itself(self, tmp_path):
        with service(tmp_path / "state", "--idle-exit", "0.01") as process:
            process.process.wait(PATIENCE)
            assert "nobody asked for anything" in process.process.stdout.read()
        assert not (tmp_path / "state" / "service.json").exists()


def test_the_command_stops_it_and_a_second_one_is_refused(tmp_path):
    state = tmp_path / "state"
    with service(state) as process, own_state(state):
        assert main(["serve"]) == 1
        assert main(["serve", "--stop"]) == 0
        process.process.wait(PATIENCE)
        assert main(["serve", "--stop"]) == 0
        with pytest.raises(ServiceError, match="No neuralusd service of yours runs here"):
            connect(start=False)
