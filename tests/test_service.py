"""The user's own service: jobs, from the asking to the result."""

import json
import os
from io import BytesIO

import numpy as np
import PIL.Image
import pytest
from pxr import Gf, Sdf, Usd, UsdRender
from services import SLOW, service, started, wait_for
from shots import add_box, photograph, two_boxes
from stages import new_stage

from neuralusd import stage as stages
from neuralusd.images import read_provenance
from neuralusd.schema import NeuralAssetAPI
from neuralusd.service.client import JobCancelled, JobFailed, ServiceError

ASSETS = ["/World/Background", "/World/Bottle", "/World/Cup"]


@pytest.fixture(scope="module")
def running(tmp_path_factory):
    """A service of one's own that all tests of this file share."""
    with service(tmp_path_factory.mktemp("own") / "state", "--cancel-after", "60", "--queue-each", "4") as process:
        yield process


@pytest.fixture
def client(running):
    return running.client()


@pytest.fixture
def shot(tmp_path):
    return two_boxes(tmp_path / "shot.usda")


class TestVerbs:
    def test_encode_gives_a_layer_that_a_program_puts_over_the_stage_it_has(self, client, shot, tmp_path):
        before = sorted(os.listdir(tmp_path))
        job = client.submit("encode", stage=str(shot))
        result = job.wait()
        assert (result["encoded"], result["camera"]) == (ASSETS, "/World/Cam")
        assert sorted(os.listdir(tmp_path)) == before
        layer = Sdf.Layer.FindOrOpen(job.download("tokens.usdc", tmp_path / "tokens.usdc"))
        assert not layer.subLayerPaths
        root = Sdf.Layer.CreateAnonymous(".usda")
        root.subLayerPaths = [layer.identifier, str(shot)]
        scene = stages.read(Usd.Stage.Open(root))
        assert {asset.path: sorted(asset.tokens) for asset in scene.assets} == dict.fromkeys(
            ASSETS, ["appearance", "geometry"]
        )

    def test_render_encodes_what_has_no_tokens_and_gives_pictures_depth_and_ids(self, client, shot, tmp_path):
        job = client.submit("render", stage=str(shot), encode=True, passes=True, seed=7)
        result = job.wait()
        assert result["encoded"] == ASSETS
        [made] = result["images"]
        assert (made["seed"], made["camera"], made["stage"]) == (7, "/World/Cam", str(shot))
        picture = job.download("image.png", tmp_path / "out.png")
        assert read_provenance(picture)["stage"] == str(shot)
        pixels = np.asarray(PIL.Image.open(picture)).astype(int)
        passes = made["passes"]
        size = passes["height"], passes["width"]
        assert pixels.shape[:2] == size
        depth = np.fromfile(job.download(passes["depth"], tmp_path / "depth"), "<f4").reshape(size)
        ids = np.fromfile(job.download(passes["ids"], tmp_path / "ids"), "<i4").reshape(size)
        cup, bottle = (ids == passes["names"].index(path) for path in ("/World/Cup", "/World/Bottle"))
        # The camera stands 8 m away; the front of the boxes, of 1 m, is half a metre nearer.
        assert 6.5 < depth[cup].min() < 7.6 and np.isinf(depth[ids == -1]).all()
        # The red cup is left, the blue bottle right, in the passes as in the picture.
        assert np.nonzero(cup)[1].max() < np.nonzero(bottle)[1].min()
        assert pixels[cup].mean(0).argmax() == 0 and pixels[bottle].mean(0).argmax() == 2

    def test_pictures_and_passes_have_the_size_that_is_asked_for(self, client, shot, tmp_path):
        job = client.submit("render", stage=str(shot), encode=True, passes=True, size=(96, 64))
        [made] = job.wait()["images"]
        with PIL.Image.open(job.download("image.png", tmp_path / "out.png")) as picture:
            assert picture.size == (96, 64)
        assert (made["passes"]["width"], made["passes"]["height"], made["size"]) == (96, 64, [96, 64])
        for name in ("depth", "ids"):
            assert os.path.getsize(job.download(made["passes"][name], tmp_path / name)) == 96 * 64 * 4

    def test_else_that_of_the_stages_render_settings(self, client, shot, tmp_path):
        stage = Usd.Stage.Open(str(shot))
        UsdRender.Settings.Define(stage, "/Render/Settings").CreateResolutionAttr(Gf.Vec2i(48, 80))
        stage.SetMetadata("renderSettingsPrimPath", "/Render/Settings")
        stage.Save()
        del stage
        job = client.submit("render", stage=str(shot), encode=True)
        job.wait()
        with PIL.Image.open(job.download("image.png", tmp_path / "out.png")) as picture:
            assert picture.size == (48, 80)

    def test_a_stage_that_asks_for_more_than_a_service_makes_is_told_so(self, client, shot):
        stage = Usd.Stage.Open(str(shot))
        UsdRender.Settings.Define(stage, "/Render/Settings").CreateResolutionAttr(Gf.Vec2i(16000, 16000))
        stage.SetMetadata("renderSettingsPrimPath", "/Render/Settings")
        stage.Save()
        del stage
        with pytest.raises(JobFailed, match="16000x16000 is more than 75 megapixels. Give a size") as failure:
            client.submit("render", stage=str(shot), encode=True).wait()
        assert failure.value.code == "SceneError"

    def test_assets_are_encoded_from_all_around(self, client, shot, tmp_path):
        found = []
        for views in (0, 3):
            for verb, arguments in (("encode", {"views": views}), ("render", {"encode": True, "encode_views": views})):
                job = client.submit(verb, stage=str(shot), **arguments)
                job.wait()
                layer = Sdf.Layer.FindOrOpen(job.download("tokens.usdc", tmp_path / f"{verb}{views}.usdc"))
                schemas = layer.GetPrimAtPath("/World/Cup").GetInfo("apiSchemas").GetAppliedItems()
                found.append(sum(schema.startswith("NeuralViewAPI") for schema in schemas))
        assert found == [found[0]] * 2 + [found[0] + 3] * 2

    def test_only_what_has_no_tokens_is_encoded_again(self, client, shot, tmp_path):
        job = client.submit("encode", stage=str(shot))
        job.wait()
        job.download("tokens.usdc", tmp_path / "tokens.usdc")
        stage = new_stage(path=str(tmp_path / "whole.usda"))
        stage.GetRootLayer().subLayerPaths = ["./tokens.usdc", "./shot.usda"]
        stage.SetMetadata("upAxis", "Y")
        NeuralAssetAPI.Apply(add_box(stage, "/World/New", (0, 1, 0)).GetPrim())
        stage.Save()
        result = client.submit("render", stage=str(tmp_path / "whole.usda"), encode=True).wait()
        assert result["encoded"] == ["/World/New"]

    def test_several_frames_are_several_files(self, client, shot):
        job = client.submit("render", stage=str(shot), encode=True, times=[1, 2.5])
        result = job.wait()
        assert [(image["file"], image["time"]) for image in result["images"]] == [
            ("image.0001.png", 1.0),
            ("image.0002.png", 2.5),
        ]
        assert job.state()["files"] == ["image.0001.png", "image.0002.png", "tokens.usdc"]

    def test_an_edit_is_a_layer_over_the_stage_and_renders_as_one(self, client, shot, tmp_path):
        job = client.submit("edit", stage=str(shot), move={"/World/Cup": [0, 0.5, 0]}, presence={"/World/Bottle": 0})
        assert job.wait()["base"] == str(shot)
        edited = job.download("edit.usda", tmp_path / "elsewhere.usda")
        scene = stages.read(Usd.Stage.Open(edited))
        assert scene.asset("/World/Cup").local_to_world[3, 1] == pytest.approx(0.5)
        assert scene.asset("/World/Bottle").presence == 0

    def test_an_edit_of_an_edit_without_tokens_keeps_to_the_picture_of_the_stage_before(self, client, shot, tmp_path):
        stage = str(shot)
        for number in (1, 2):
            job = client.submit("edit", stage=stage, move={"/World/Cup": [0, 0.2, 0]})
            job.wait()
            stage = job.download("edit.usda", tmp_path / f"edit{number}.usda")
        pictures = []
        for each in (str(shot), stage):
            job = client.submit("render", stage=each, encode=True, passes=True, size=[128, 128])
            result = job.wait()
            assert result["encoded"] == ASSETS
            pictures.append(np.asarray(PIL.Image.open(job.download("image.png", tmp_path / "out.png"))).astype(int))
        assert result["images"][0]["held"] is True
        difference = np.abs(pictures[1] - pictures[0]).max(2)
        # The cup is left, the bottle right of the middle: that half is as it was.
        assert difference[:, : len(difference) // 2].max() > 50 and difference[:, len(difference) // 2 :].max() == 0

    def test_a_photograph_becomes_a_stage(self, client, tmp_path):
        photo, masks, depth = photograph(tmp_path)
        files = {"image": str(photo), "masks": str(masks), "depth_map": str(depth)}
        job = client.submit("encode_photo", **files, prompts="cup, box")
        result = job.wait()
        stage = Usd.Stage.Open(job.download("scene.usdc", tmp_path / "scene.usdc"))
        assert len(result["assets"]) == 3 and all(stage.GetPrimAtPath(path) for path in result["assets"])
        assert any("field of view" in line for line in job.state()["log"])

    def test_a_picture_becomes_an_asset(self, client, tmp_path):
        picture = np.full((60, 40, 3), 255, np.uint8)
        picture[15:50, 8:32] = 30, 90, 200
        PIL.Image.fromarray(picture).save(tmp_path / "blue box.png")
        image = str(tmp_path / "blue box.png")
        job = client.submit("lift", image=image, name="a blue box", height=0.5, backend="silhouette")
        result = job.wait()
        stage = Usd.Stage.Open(job.download("asset.usdz", tmp_path / "asset.usdz"))
        assert str(stage.GetDefaultPrim().GetPath()) == result["prim"]
        (least, most) = result["extent"]
        assert most[1] - least[1] == pytest.approx(0.5, rel=0.02)
        assert {tuple(sorted(asset.tokens)) for asset in stages.read(stage).assets} == {("appearance", "geometry")}

    @pytest.mark.parametrize(
        ("verb", "arguments", "says"),
        [
            ("render", {"stage": "/nowhere/shot.usda"}, "/nowhere/shot.usda does not exist"),
            ("render", {"camera": "/World/Nope"}, "/World/Nope"),
            ("render", {}, "has no tokens on any prim"),
            ("render", {"encode": True, "backend": "nope"}, "'nope' is no backend"),
            ("edit", {"move": {"/World/Nope": [1, 0, 0]}}, "/World/Nope"),
            ("encode", {"assets": ["/World/Nope"]}, "/World/Nope"),
        ],
    )
    def test_what_is_wrong_with_a_stage_is_said_as_everywhere(self, client, shot, verb, arguments, says):
        with pytest.raises(JobFailed, match=says) as failure:
            client.submit(verb, **{"stage": str(shot), **arguments}).wait()
        assert failure.value.code not in ("bug", "worker_died", "error")
        assert "Traceback" not in str(failure.value)

    @pytest.mark.parametrize(
        ("verb", "arguments", "says"),
        [
            ("render", {}, "stage is missing"),
            ("render", {"stage": "a.usda", "sead": 7}, "there is no argument sead. It takes: .*seed"),
            ("render", {"stage": "a.usda", "steps": 0}, "steps: .*greater than or equal to 1"),
            ("render", {"stage": "a.usda", "guidance": "much"}, "guidance: .*number"),
            ("render", {"stage": "a.usda", "time": 1, "times": [1]}, "not both"),
            ("render", {"stage": "a.usda", "size": 512}, "size: .*list"),
            ("render", {"stage": "a.usda", "size": [512]}, "size: .*at least 2"),
            ("render", {"stage": "a.usda", "size": [0, 512]}, "size.0: .*greater than or equal to 1"),
            ("render", {"stage": "a.usda", "size": [16384, 16385]}, "size.1: .*less than or equal to 16384"),
            ("render", {"stage": "a.usda", "size": [16384, 16384]}, "size: 16384x16384 are more than 75 megapixels"),
            ("render", {"stage": "a.usda", "encode_views": 3}, "encode_views is for encode=true"),
            ("render", {"stage": "a.usda", "encode": True, "encode_albedo": "a.png"}, "goes with encode_image"),
            ("encode", {"stage": "a.usda", "albedo": "a.png"}, "albedo goes with image"),
            ("encode", {"stage": "a.usda", "views": 65}, "views: .*64"),
            ("edit", {"stage": "a.usda"}, "name an edit"),
            ("edit", {"stage": "a.usda", "move": {"/World/Cup": [1, 2]}}, "move"),
            ("depict", {"stage": "a.usda"}, "depict is not built yet. This service has: .*render"),
            ("paint", {}, "There is no verb 'paint'"),
        ],
    )
    def test_wrong_arguments_are_refused_before_there_is_a_job(self, client, verb, arguments, says):
        with pytest.raises(ServiceError, match=says):
            client.submit(verb, **arguments)


class TestProgress:
    def test_steps_come_in_order_with_labels_and_intermediate_pictures(self, client, shot, tmp_path):
        job = client.submit("render", stage=str(shot), encode=True, steps=60, size=[128, 128])
        events = list(job.events())
        assert [event["seq"] for event in events] == list(range(1, len(events) + 1))
        assert [event["state"] for event in events if event["event"] == "state"] == ["queued", "running", "done"]
        steps = [event["progress"] for event in events if event["event"] == "progress"]
        assert [step["step"] for step in steps] == sorted(step["step"] for step in steps)
        assert steps[-1] == {"step": 64, "steps": 64, "label": "rendering"}
        assert "encoded" in [step["label"] for step in steps]
        assert events[-1]["preview"] >= 1 and events[-1]["files"] == ["image.png", "tokens.usdc"]
        # Not the noise on the way, but what it leads to.
        picture = np.asarray(PIL.Image.open(BytesIO(job.preview()))).astype(int)
        made = np.asarray(PIL.Image.open(job.download("image.png", tmp_path / "out.png"))).astype(int)
        assert picture.shape == made.shape and np.abs(picture - made).mean() < 10

    def test_events_go_on_where_they_were_left(self, client, shot):
        job = client.submit("render", stage=str(shot), encode=True)
        job.wait()
        every = list(job.events())
        status, _, rest = request(client, f"/v1/jobs/{job.id}/events?after={every[2]['seq']}")
        assert status == 200
        assert [json.loads(line)["seq"] for line in rest.splitlines()] == [event["seq"] for event in every[3:]]


def request(client, path):
    with client._open("GET", path) as response:
        return response.status, response.headers, response.read()


class TestCancel:
    def test_a_running_job_stops_at_its_next_step_and_the_worker_stays(self, running, client, shot):
        worker = running.worker()
        seen = []
        job = client.submit("render", stage=str(shot), encode=True, **SLOW)
        with pytest.raises(JobCancelled):
            job.wait(seen.append, cancelled=lambda: any(event["progress"]["step"] > 6 for event in seen))
        assert job.state()["state"] == "cancelled" and job.state()["files"] == []
        assert running.worker() == worker
        client.submit("render", stage=str(shot), encode=True).wait()

    def test_a_waiting_job_is_cancelled_at_once_and_the_queue_has_limits(self, client, shot):
        first = started(client.submit("render", stage=str(shot), encode=True, **SLOW))
        waiting = [client.submit("render", stage=str(shot), encode=True) for _ in range(4)]
        assert [job.state()["position"] for job in waiting] == [0, 1, 2, 3]
        with pytest.raises(ServiceError, match="4 of your jobs are waiting") as refused:
            client.submit("render", stage=str(shot))
        assert refused.value.code == "busy" and refused.value.retry_after > 0
        waiting[1].cancel()
        assert waiting[1].state()["state"] == "cancelled"
        assert waiting[3].state()["position"] == 2
        with pytest.raises(JobCancelled, match="before it began"):
            waiting[1].wait()
        with client._open("GET", f"/v1/jobs/{waiting[3].id}/events?beat=0.2") as stream:
            assert json.loads(stream.readline())["position"] == 2
            waiting[2].cancel()
            told = [json.loads(stream.readline()) for _ in range(10)]
            assert ("queue", 1) in [(event["event"], event["position"]) for event in told]
        first.cancel()
        assert [waiting[index].wait()["images"][0]["verb"] for index in (0, 3)] == ["render"] * 2


def test_an_ended_job_can_be_removed_and_a_running_one_cannot(client, shot):
    job = started(client.submit("render", stage=str(shot), encode=True, **SLOW))
    with pytest.raises(ServiceError, match="has not ended"):
        job.remove()
    job.cancel()
    wait_for(lambda: job.state()["state"] == "cancelled")
    job.remove()
    assert job.id not in [found["id"] for found in client.jobs()]


def test_changed_files_of_the_same_name_are_read_anew(client, tmp_path):
    shot = two_boxes(tmp_path / "shot.usda")
    first = client.submit("encode", stage=str(shot)).wait()
    stage = Usd.Stage.Open(str(shot))
    stage.RemovePrim("/World/Bottle")
    stage.Save()
    del stage
    second = client.submit("encode", stage=str(shot)).wait()
    assert "/World/Bottle" in first["encoded"] and "/World/Bottle" not in second["encoded"]
