"""A photograph to a scene by detectors, segmenters and depth models: transformers' own classes, with tiny weights."""

import json

import numpy as np
import pytest
import tiny_annotators as tiny
import torch
import torch.nn.functional as F
import transformers
from PIL import Image

from neuralusd.annotate import ImageError, ModelError, annotate, photo_scene
from neuralusd.annotate.depth import estimate_depth, from_relative
from neuralusd.annotate.detect import detect
from neuralusd.annotate.segment import segment

BOXES = [(10, 10, 40, 40), (50, 20, 80, 50)]


@pytest.fixture(scope="module")
def image():
    """90x60 pixels of noise: random weights see nothing in anything else."""
    return Image.fromarray(np.random.default_rng(0).integers(0, 255, (60, 90, 3), dtype=np.uint8))


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    root = tmp_path_factory.mktemp("models")
    return {
        "relative": tiny.seeded(tiny.depth_anything, root / "relative"),
        "metric": tiny.seeded(tiny.depth_anything, root / "metric", kind="metric"),
        **{
            name: tiny.seeded(getattr(tiny, name), root / name)
            for name in ("zoedepth", "depth_pro", "sam", "sam2", "yolos", "grounding_dino", "owlvit")
        },
    }


def run(auto_class, folder, **inputs):
    with torch.inference_mode():
        return auto_class.from_pretrained(folder).eval()(**inputs)


class TestDepth:
    def test_a_metric_model_gives_what_its_own_post_processing_gives(self, image, folders):
        processor = transformers.AutoImageProcessor.from_pretrained(folders["metric"])
        outputs = run(
            transformers.AutoModelForDepthEstimation, folders["metric"], **processor(images=image, return_tensors="pt")
        )
        expected = processor.post_process_depth_estimation(outputs, [(60, 90)])[0]["predicted_depth"].numpy()
        depth = estimate_depth(image, folders["metric"])
        assert depth.metres.shape == (60, 90) and depth.metres.dtype == np.float32
        np.testing.assert_allclose(depth.metres, expected.clip(1e-3), rtol=1e-5)
        assert np.ptp(depth.metres) > 0 and not depth.notes

    def test_a_relative_model_is_mapped_to_assumed_metres_and_says_so(self, image, folders):
        depth = estimate_depth(image, folders["relative"])
        raw = estimate_depth(image, folders["relative"], kind="metric").metres  # the numbers as they are
        assert depth.metres.min() == pytest.approx(1.0) and depth.metres.max() == pytest.approx(10.0)
        inside = (depth.metres > 1.001) & (depth.metres < 9.99)
        assert np.corrcoef(1 / depth.metres[inside], raw[inside])[0, 1] == pytest.approx(1, abs=1e-4)
        assert any("between 1 m and 10 m" in note for note in depth.notes)

    def test_relative_depth_has_any_scale_and_shift(self):
        inverse = np.random.default_rng(0).random((40, 50))
        np.testing.assert_allclose(from_relative(inverse), from_relative(inverse * 300 - 7))
        assert from_relative(inverse)[np.unravel_index(inverse.argmax(), inverse.shape)] == pytest.approx(1.0)
        assert (from_relative(np.full((4, 4), 3.0)) == 10.0).all()

    def test_zoedepth_border_is_cut_off(self, image, folders):
        """It sees the image with a reflected border of 3 sqrt(side / 2) pixels."""
        processor = transformers.AutoImageProcessor.from_pretrained(folders["zoedepth"])
        outputs = run(
            transformers.AutoModelForDepthEstimation, folders["zoedepth"],
            **processor(images=image, return_tensors="pt"),
        )  # fmt: skip
        down, right = int(3 * 30**0.5), int(3 * 45**0.5)
        padded = F.interpolate(
            outputs.predicted_depth[None], (60 + 2 * down, 90 + 2 * right), mode="bicubic", align_corners=False
        )
        depth = estimate_depth(image, folders["zoedepth"])
        np.testing.assert_allclose(depth.metres, padded[0, 0, down:-down, right:-right], rtol=1e-5)

    def test_depth_pro_is_scaled_by_the_field_of_view(self, image, folders):
        """Its depth is inversely proportional to the focal length in image widths (its equation 1)."""
        near = estimate_depth(image, folders["depth_pro"], field_of_view=90.0)
        far = estimate_depth(image, folders["depth_pro"], field_of_view=2 * np.degrees(np.arctan(0.5)))
        inside = (near.metres > 0.01) & (near.metres < 1000)
        assert inside.any()
        np.testing.assert_allclose(far.metres[inside], 2 * near.metres[inside], rtol=1e-4)
        assert near.field_of_view == 90.0

    def test_depth_pro_tells_the_field_of_view(self, image, folders, tmp_path):
        model = transformers.DepthProForDepthEstimation.from_pretrained(folders["depth_pro"])
        last = model.fov_model.head.layers[-1]
        with torch.no_grad():
            last.weight.zero_()
            last.bias.fill_(72.0)
        model.save_pretrained(tmp_path)
        (tmp_path / "preprocessor_config.json").write_text(
            (folders["depth_pro"] / "preprocessor_config.json").read_text()
        )
        annotation = annotate(image, masks=np.eye(60, 90, dtype=int), depth=tmp_path, progress=False)
        assert annotation.field_of_view == pytest.approx(72.0)

    def test_what_the_numbers_are_must_be_known(self, image, tmp_path):
        config = {"model_type": "chmv2"}
        (tmp_path / "config.json").write_text(json.dumps(config))
        (tmp_path / "model.safetensors").write_bytes(b"")
        with pytest.raises(ModelError, match='say kind="metric"'):
            estimate_depth(image, tmp_path)


class TestSegment:
    def test_sam_gives_what_its_own_processor_gives(self, image, folders):
        processor = transformers.AutoProcessor.from_pretrained(folders["sam"])
        inputs = processor(image, input_boxes=[[list(map(float, box)) for box in BOXES]], return_tensors="pt")
        inputs["input_boxes"] = inputs["input_boxes"].float()
        sizes = inputs.pop("original_sizes"), inputs.pop("reshaped_input_sizes")
        outputs = run(transformers.AutoModelForMaskGeneration, folders["sam"], **inputs, multimask_output=False)
        expected = processor.image_processor.post_process_masks(
            outputs.pred_masks, *sizes, pad_size={"height": 64, "width": 64}
        )[0][:, 0].numpy()
        masks = segment(image, folders["sam"], BOXES)
        np.testing.assert_array_equal(np.stack(masks), expected)
        assert 0 < expected.mean() < 1

    def test_sam_2_works_without_torchvision(self, image, folders):
        masks = segment(image, folders["sam2"], BOXES)
        pixels = torch.from_numpy(np.asarray(image.resize((64, 64), Image.Resampling.BILINEAR)) / 255.0)
        mean, std = torch.tensor([0.485, 0.456, 0.406]), torch.tensor([0.229, 0.224, 0.225])
        boxes = torch.tensor(BOXES) * torch.tensor([64 / 90, 64 / 60, 64 / 90, 64 / 60])
        outputs = run(
            transformers.AutoModelForMaskGeneration, folders["sam2"], multimask_output=False,
            pixel_values=((pixels - mean) / std).permute(2, 0, 1)[None].float(), input_boxes=boxes[None],
        )  # fmt: skip
        expected = F.interpolate(outputs.pred_masks[0], (60, 90), mode="bilinear")[:, 0] > 0
        for mask, other in zip(masks, expected.numpy(), strict=True):
            assert mask.shape == (60, 90)
            assert (mask == other).mean() > 0.95
        assert (masks[0] != masks[1]).any()

    def test_other_models_take_no_boxes(self, image, folders):
        with pytest.raises(ModelError, match="type yolos, which takes no boxes; these do: .*sam"):
            segment(image, folders["yolos"], BOXES)


class TestDetect:
    def test_closed_vocabulary(self, image, folders):
        found = detect(image, folders["yolos"], [], threshold=0.0)
        assert found == sorted(found, key=lambda d: -d.score)
        processor = transformers.AutoImageProcessor.from_pretrained(folders["yolos"])
        outputs = run(
            transformers.AutoModelForObjectDetection, folders["yolos"], **processor(images=image, return_tensors="pt")
        )
        result = processor.post_process_object_detection(outputs, threshold=0.0, target_sizes=[(60, 90)])[0]
        boxes = result["boxes"].clamp(torch.zeros(4), torch.tensor([90.0, 60, 90, 60]))
        inside = (boxes[:, 2:] - boxes[:, :2] >= 1).all(1)  # random weights also see things beside the image
        best = torch.where(inside, result["scores"], -1).argmax()
        assert found[0].score == pytest.approx(result["scores"][best].item())
        np.testing.assert_allclose(found[0].box, boxes[best])
        assert found[0].label in ("chair", "table", "cup")

    def test_no_object_is_found_twice(self, image, folders):
        found = detect(image, folders["yolos"], [], threshold=0.0)
        assert 1 <= len(found) < 12
        for index, a in enumerate(found):
            for b in found[:index]:
                left, top = np.maximum(a.box[:2], b.box[:2])
                right, bottom = np.minimum(a.box[2:], b.box[2:])
                shared = max(right - left, 0) * max(bottom - top, 0)
                areas = [(d.box[2] - d.box[0]) * (d.box[3] - d.box[1]) for d in (a, b)]
                assert shared / (sum(areas) - shared) < 0.7

    def test_prompts_restrict_a_closed_vocabulary(self, image, folders):
        everything = {d.label for d in detect(image, folders["yolos"], [], threshold=0.0)}
        assert {d.label for d in detect(image, folders["yolos"], ["Cup"], threshold=0.0)} == everything & {"cup"}
        with pytest.raises(ModelError, match="knows 3 labels, and not 'cups'; near ones: cup"):
            detect(image, folders["yolos"], ["cups"])

    @pytest.mark.parametrize("detector", ["grounding_dino", "owlvit"])
    def test_open_vocabulary_answers_in_the_words_of_the_prompts(self, image, folders, detector):
        found = detect(image, folders[detector], ["a red chair", "cup"], threshold=0.0)
        assert found
        assert {detection.label for detection in found} <= {"a red chair", "cup"}
        for detection in found:
            left, top, right, bottom = detection.box
            assert 0 <= left < right <= 90 and 0 <= top < bottom <= 60

    def test_open_vocabulary_needs_prompts(self, image, folders):
        with pytest.raises(ModelError, match="looks for what you name: give prompts"):
            detect(image, folders["grounding_dino"], [])


class TestWhole:
    def test_photograph_to_scene(self, image, folders):
        scene, passes = photo_scene(
            image, detector=folders["yolos"], segmenter=folders["sam"], depth=folders["zoedepth"],
            threshold=0.0, progress=False,
        )  # fmt: skip
        assert scene.foreground
        for index, asset in enumerate(scene.assets):
            if asset.role == "foreground":
                assert asset.text in ("chair", "table", "cup")
                visible = passes.mask(index) & np.isfinite(passes.depth)
                points = passes.points[visible]
                assert (points >= asset.extent[0] - 1e-5).all() and (points <= asset.extent[1] + 1e-5).all()
        assert passes.ids.min() >= 0 and passes.ids.max() == len(scene.assets) - 1

    def test_nothing_found_says_what_to_do(self, image, folders):
        with pytest.raises(ImageError, match="found nothing of cup with a score of 1 or more; name other objects"):
            annotate(
                image, detector=folders["yolos"], segmenter=folders["sam"], prompts="cup", threshold=1.0, progress=False
            )

    def test_small_objects_are_left_out(self, image, folders):
        options = {"detector": folders["yolos"], "segmenter": folders["sam"], "threshold": 0.0, "progress": False}
        with pytest.raises(ImageError, match="empty or very small mask"):
            annotate(image, **options, min_area=1.1)


class TestLoading:
    """What is no model, or none that is safe, says what to do."""

    def test_a_hub_that_cannot_be_reached(self, image):
        with pytest.raises(
            ModelError, match="cannot be had from the hub .*; give a local folder of the model, or the masks"
        ):
            annotate(image, detector="someone/detector", segmenter="someone/sam", prompts="cup", progress=False)
        with pytest.raises(ModelError, match=r"or the depth that you have \(--depth\)"):
            annotate(image, masks=np.eye(60, 90, dtype=int), depth="someone/depth", progress=False)

    def test_pickles_are_refused(self, image, folders, tmp_path):
        (tmp_path / "config.json").write_text((folders["sam"] / "config.json").read_text())
        with pytest.raises(ModelError, match="has no weights"):
            segment(image, tmp_path, BOXES)
        torch.save({}, tmp_path / "pytorch_model.bin")
        with pytest.raises(ModelError, match="only as pickle, which can run any code"):
            segment(image, tmp_path, BOXES)

    def test_code_from_a_download_is_not_run(self, image, folders, tmp_path):
        config = json.loads((folders["yolos"] / "config.json").read_text())
        config |= {
            "model_type": "mine",
            "auto_map": {"AutoConfig": "code.Config", "AutoModelForObjectDetection": "code.M"},
        }
        (tmp_path / "config.json").write_text(json.dumps(config))
        (tmp_path / "code.py").write_text(f"open({str(tmp_path / 'ran')!r}, 'w')\nclass Config: pass\nclass M: pass\n")
        (tmp_path / "model.safetensors").write_bytes((folders["yolos"] / "model.safetensors").read_bytes())
        with pytest.raises(ModelError, match="its own code, which neuralusd does not run"):
            detect(image, tmp_path, [])
        assert not (tmp_path / "ran").exists()

    def test_folders_that_are_none(self, image, folders, tmp_path):
        with pytest.raises(ModelError, match="is not a folder here"):
            segment(image, tmp_path / "absent", BOXES)
        with pytest.raises(ModelError, match="has no config.json"):
            segment(image, tmp_path, BOXES)
        with pytest.raises(ModelError, match="is a file"):
            segment(image, folders["sam"] / "config.json", BOXES)

    def test_a_model_of_another_kind(self, image, folders):
        with pytest.raises(ModelError, match="depth model"):
            estimate_depth(image, folders["sam"], kind="metric")
        with pytest.raises(ModelError, match="detector"):
            detect(image, folders["sam"], [])

    def test_damaged_weights(self, image, folders, tmp_path):
        for file in folders["sam"].iterdir():
            (tmp_path / file.name).write_bytes(file.read_bytes())
        whole = (tmp_path / "model.safetensors").read_bytes()
        (tmp_path / "model.safetensors").write_bytes(whole[: len(whole) // 2])
        with pytest.raises(ModelError, match="does not load"):
            segment(image, tmp_path, BOXES)
