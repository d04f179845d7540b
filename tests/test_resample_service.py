"""`resample` by a service: a stage that is sent comes back as variations over it, with a picture of each."""

from __future__ import annotations

import PIL.Image
import pytest
from pxr import Usd
from services import shared_service, started
from tiny_backend import save_tiny_backend
from tiny_resample import room, save_tiny_prior

import neuralusd
from neuralusd import stage as stages
from neuralusd.service.client import JobCancelled, JobFailed, ServiceError
from neuralusd.stage.variations import list_samples, select_variant

TOKEN = "nobody-guesses-this-token-of-forty-eight-characters"


@pytest.fixture(scope="module")
def weights(tmp_path_factory):
    folder = tmp_path_factory.mktemp("weights")
    return str(save_tiny_prior(folder / "prior")), str(save_tiny_backend(folder / "render"))


@pytest.fixture(scope="module")
def client(tmp_path_factory, weights):
    """Of a shared service that may use the weights."""
    folder = tmp_path_factory.mktemp("shared") / "state"
    with shared_service(
        folder, {"ann": TOKEN}, "--allow-weights", weights[0], "--allow-weights", weights[1]
    ) as process:
        yield process.client(TOKEN)


@pytest.fixture
def shot(tmp_path, weights):
    """A room that holds its tokens itself, so that it can be sent."""
    stage = room(tmp_path / "room.usda")
    neuralusd.encode(stage, backend=weights[1])
    stage.Save()
    return tmp_path / "room.usda"


def test_what_is_sent_comes_back_as_variations_over_it(client, weights, shot):
    prior, drawing = weights
    job = client.submit(
        "resample",
        stage=shot,
        keep=["everything"],
        vary={"/Room/Bed:pose": 0.0, "looks": 0.0},
        samples=2,
        seed=3,
        backend=prior,
        render_backend=drawing,
        sheet=True,
        pictures=True,
    )
    labels = []
    result = job.wait(on_progress=lambda event: labels.append(event["progress"]["label"]))
    assert result["variantSet"] == "neuralResample" and result["base"] == "./room.usda"
    assert [each["name"] for each in result["samples"]] == ["sample_1", "sample_2"]
    assert all(each["moved"] == ["/Room/Bed"] for each in result["samples"])
    assert "resampling" in labels
    # Beside the stage that was sent, it is a stage over it.
    stage = Usd.Stage.Open(job.download("variations.usdc", shot.with_name("variations.usdc")))
    assert stage.GetPrimAtPath("/Room/Bed/Frame") and stage.GetPrimAtPath("/Room/Bed/Sampled")
    assert len(list_samples(stage)) == 2
    select_variant(stage, "neuralResample", "original")
    assert not stage.GetPrimAtPath("/Room/Bed/Sampled")
    for name in ("source.png", "sample_1.png", "sample_2.png", "sheet.png"):
        with PIL.Image.open(job.download(name, shot.with_name(name))) as picture:
            assert picture.width >= 32


def test_a_stage_without_tokens_gets_some(client, weights, tmp_path):
    room(tmp_path / "bare.usda")
    prior, drawing = weights
    job = client.submit(
        "resample",
        stage=tmp_path / "bare.usda",
        encode=True,
        keep=["everything"],
        vary={"/Room/Bed:appearance": 0.0},
        samples=1,
        backend=prior,
        render_backend=drawing,
    )
    result = job.wait()
    assert "/Room/Bed" in result["encoded"] and result["base"] == "./tokens.usdc"
    for name in ("variations.usdc", "tokens.usdc"):
        job.download(name, tmp_path / name)
    stage = Usd.Stage.Open(str(tmp_path / "variations.usdc"))
    assert stage.GetPrimAtPath("/Room/Bed/Sampled") and stage.GetPrimAtPath("/Room/Chair/Seat")
    assert set(stages.read(stage).asset("/Room/Chair").tokens) == {"appearance", "geometry"}


def test_what_is_wrong_is_said_and_who_cancels_is_heard(client, weights, shot):
    prior, drawing = weights
    given = {"stage": shot, "backend": prior, "render_backend": drawing}
    with pytest.raises(JobFailed, match="</Room/Sofa> does not exist. The assets"):
        client.submit("resample", keep=["/Room/Sofa"], **given).wait()
    with pytest.raises(ServiceError, match="vary.layout"):
        client.submit("resample", vary={"layout": 2.0}, **given)
    with pytest.raises(ServiceError, match="is not among the weights"):
        client.submit("resample", stage=shot, keep=["camera"], backend="/somebody/elses")
    job = client.submit("resample", keep=["camera"], samples=100, steps=1000, **given)
    started(job)
    job.cancel()
    with pytest.raises(JobCancelled):
        job.wait()
    assert job.state()["files"] == []
