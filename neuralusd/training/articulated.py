"""Training the autodecoder on what moves: parts, their skinning weights and their poses (3DVADER, sections 3.2 and
B.1), and on views whose cameras are known only roughly, or not at all.

The poses of parts come from keypoints by PnP. What keeps keypoints from collapsing is from the paper's predecessor
(Unsupervised Volumetric Animation, Siarohin et al., 2023): the projections of the points in space have to meet those in
the picture; a picture that is turned, scaled and shifted has to have its points turned, scaled and shifted (as in the
First Order Motion Model, Siarohin et al., 2019); a part with next to nothing of the object is pulled to where the
largest part is; and a first stage moves all parts as one.

Ours, since the compute is small: parts begin in regions of their own (`ArticulatedConfig.prior`); keypoints are looked
for around where the cameras as they are given (or, without cameras, one camera for all) would see them if nothing had
moved (`reach` of `KeypointUNet`), so that training starts as with a rigid object; and a part may not leave the cube,
where it would be seen by nobody and hence never come back (`stray_weight`).
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field, fields, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from accelerate import Accelerator
from accelerate.utils import set_seed
from torch import nn

from ..datasets.clips import Clips
from ..datasets.objects import ObjectViews
from ..models.precision import best_precision
from ..models.volumes.decoder import VolumeDecoder, activate
from ..models.volumes.embeddings import ObjectEmbeddings
from ..models.volumes.keypoints import CanonicalKeypoints, KeypointUNet, in_picture, on_image_plane
from ..models.volumes.perceptual import VggPyramid
from ..models.volumes.pnp import project, solve_pnp
from ..models.volumes.rendering import Rendered, render_rays
from ..models.volumes.skinning import InverseSkinning, skinning_weights
from .autodecoder import Autodecoder, AutodecoderConfig, views_of
from .cameras import CameraCorrections, without_cameras
from .log import plot_log
from .loop import Losses, run_steps

CAMERAS = ("given", "refined", "estimated")
MOTIONS = ("none", "given", "estimated")


@dataclass(frozen=True)
class ArticulatedConfig(AutodecoderConfig):
    """As `AutodecoderConfig`, whose `decoder` says how many parts there are and whose `carved_steps` are not used.

    Attributes:
        cameras: "given"; "refined", given but only roughly, with a correction learned for each view; "estimated", not
            given, so that the parts' poses are all that is known of a view.
        motion: of the parts: "none", all is one rigid part; "given" by the clips (`Clips.motion`); "estimated", from
            keypoints. With given cameras the first part is what they are given of, and stands still.
        keypoints: configuration of `KeypointUNet`, without its parts; `points` is N_k.
        warm_steps: at first, without rendering, in which keypoints learn to be seen where the cameras would see them
            (for networks without a `reach`). rigid_steps: after them, with all parts moving as the first.
        prior: how far parts begin in regions of their own: what is taken from a part's logits for the squared distance
            to its place, on a spiral from the bottom of the cube to its top. 0, as the paper, leaves it to chance.
        claims: whether density tells which parts claim a place (`InverseSkinning`); False is the paper's footnote 3.
        projection_weight, equivariance_weight, pull_weight: of the predecessor's losses. pull_below: the share of the
            object below which a part is pulled.
        stray_weight: of how far outside of the cube poses have keypoints; 0 is the paper's.
        camera_lr, keypoint_lr: times `lr`, of corrections of cameras and of keypoints and their network.
    """

    cameras: str = "given"
    motion: str = "estimated"
    keypoints: dict[str, Any] = field(default_factory=dict)
    warm_steps: int = 0
    rigid_steps: int = 0
    prior: float = 0.0
    claims: bool = True
    projection_weight: float = 10.0
    equivariance_weight: float = 10.0
    pull_weight: float = 10.0
    pull_below: float = 0.01
    stray_weight: float = 0.0
    camera_lr: float = 1.0
    keypoint_lr: float = 1.0


# N_p = 10 and N_k = 125 (section B.1).
FULL_ARTICULATED = ArticulatedConfig(
    decoder={"parts": 10}, keypoints={"points": 125}, cameras="estimated", objects=8, rigid_steps=100_000, steps=200_000
)
MINI_ARTICULATED = ArticulatedConfig(
    decoder={"embedding_dim": 64, "channels": (64, 32, 16, 8), "depth": 1, "attention_resolutions": (), "parts": 5},
    embeddings={"embedding_dim": 64},
    keypoints={"points": 8, "size": 32, "channels": 8, "depth": 3, "reach": 0.4},
    objects=2,
    resolution=32,
    samples=24,
    foreground_weight=2.0,
    embedding_weight=1e-4,
    prior=4.0,
    projection_weight=1.0,
    stray_weight=10.0,
    keypoint_lr=0.2,
    steps=600,
    lr=2e-3,
)


@dataclass
class FramePoses:
    """Where the parts of an object are in a frame, and how well that is known.

    Attributes:
        rotation: (B, V, P, 3, 3). translation: (B, V, P, 3). From the canonical cube to the frame's, see
            `InverseSkinning`.
        missed: () how far keypoints are seen from where the poses have them; 0 without keypoints.
        strayed: () how far poses have keypoints outside of the frame's cube; 0 without keypoints.
        seen: (B * V, P, N_k, 2) keypoints in the pictures, as `KeypointUNet` has them; None without keypoints.
    """

    rotation: torch.Tensor
    translation: torch.Tensor
    missed: torch.Tensor
    strayed: torch.Tensor
    seen: torch.Tensor | None = None


class ArticulatedAutodecoder(Autodecoder):
    """An autodecoder whose objects have parts that move. ValueError where the configuration contradicts itself."""

    def __init__(
        self, config: ArticulatedConfig, objects: int, views: int, perceptual: nn.Module | None = None
    ) -> None:
        super().__init__(config, objects, perceptual)
        self.config: ArticulatedConfig = config
        if config.cameras not in CAMERAS or config.motion not in MOTIONS:
            raise ValueError(
                f"cameras are {', '.join(CAMERAS)} and motion is {', '.join(MOTIONS)}; these are "
                f"'{config.cameras}' and '{config.motion}'"
            )
        if config.cameras == "estimated" and config.motion != "estimated":
            raise ValueError("cameras are estimated as the poses of parts are; set motion to 'estimated' as well")
        self.parts = 1 if config.motion == "none" else max(1, self.decoder.config.parts)
        self.anchored = config.cameras != "estimated"
        self.places = _places(self.parts) if config.prior and config.motion == "estimated" else None
        self.corrections = CameraCorrections(objects, views) if config.cameras == "refined" else None
        if config.motion == "estimated":
            self.unet = KeypointUNet(parts=self.parts, **config.keypoints)
            self.points = CanonicalKeypoints(self.parts, self.unet.config.points)

    def forward(
        self,
        objects: torch.Tensor,
        origins: torch.Tensor,
        directions: torch.Tensor,
        color: torch.Tensor,
        mask: torch.Tensor,
        generator: torch.Generator | None = None,
        *,
        views: torch.Tensor | None = None,
        cameras: torch.Tensor | None = None,
        intrinsics: torch.Tensor | None = None,
        motion: torch.Tensor | None = None,
        stage: str = "parts",
    ) -> torch.Tensor:
        """The loss. The first five arguments are those of `Autodecoder.forward`.

        Args:
            views: (B, V). cameras: (B, V, 4, 4), `camera_to_canonical`. intrinsics: (B, V, 4).
            motion: (B, V, P, 4, 4) where it is given, see `Clips`.
            stage: "warm", "rigid" or "parts".
        """
        assert views is not None and cameras is not None and intrinsics is not None
        image = color.movedim(-1, 2)
        if stage == "warm":
            return self._warm(image, cameras, intrinsics)
        embedding = self.embeddings(objects)
        volume = self.decoder(embedding).float()
        if self.corrections is not None:
            origins, directions = self.corrections(objects, views, origins, directions)
        poses = self.poses(image, cameras, intrinsics, motion, together=stage == "rigid")
        seen, share = self.render(volume, origins, directions, poses, generator)
        rendered = seen.color.view(color.shape).flatten(0, 1).movedim(-1, 1)
        outline = (seen.occupancy.view(mask.shape) - mask).abs().mean()
        loss = self.perceptual(rendered, image.flatten(0, 1)) + self.config.foreground_weight * outline
        loss = loss + self._small(embedding)
        if self.config.motion == "estimated":
            loss = loss + self.config.projection_weight * poses.missed + self.config.stray_weight * poses.strayed
            if generator is not None and self.config.equivariance_weight and poses.seen is not None:
                expected = self._expected(cameras, intrinsics)
                turned = self._equivariance(image.flatten(0, 1), poses.seen, expected, generator)
                loss = loss + self.config.equivariance_weight * turned
            if stage == "parts" and self.parts > 1:
                loss = loss + self.config.pull_weight * self._pull(poses, share)
        return loss

    def poses(
        self,
        image: torch.Tensor,
        cameras: torch.Tensor,
        intrinsics: torch.Tensor,
        motion: torch.Tensor | None = None,
        together: bool = False,
    ) -> FramePoses:
        """Poses of the parts in pictures (B, V, 3, H, W), black where the object is not; the other arguments as
        `forward`'s. `together`: all parts move as the first one."""
        batch, count = image.shape[:2]
        rotation = torch.eye(3).to(image).expand(batch, count, self.parts, 3, 3)
        translation = torch.zeros(batch, count, self.parts, 3).to(image)
        still = FramePoses(rotation, translation, image.new_zeros(()), image.new_zeros(()))
        if self.config.motion == "none" or together and self.anchored:
            return still
        if self.config.motion == "given":
            assert motion is not None
            told = motion.shape[2]
            still.rotation = torch.cat([motion[..., :3, :3].mT, rotation[:, :, told:]], 2)
            still.translation = torch.cat([motion[..., 3, :3], translation[:, :, told:]], 2)
            return still
        found = self._from_keypoints(image, cameras, intrinsics)
        if together:
            found.rotation = found.rotation[:, :, :1].expand_as(rotation)
            found.translation = found.translation[:, :, :1].expand_as(translation)
        elif self.anchored:
            found.rotation = torch.cat([rotation[:, :, :1], found.rotation[:, :, 1:]], 2)
            found.translation = torch.cat([translation[:, :, :1], found.translation[:, :, 1:]], 2)
        return found

    def _from_keypoints(self, image: torch.Tensor, cameras: torch.Tensor, intrinsics: torch.Tensor) -> FramePoses:
        """Poses of all parts as the keypoints in pictures tell them; of those that have none, as in the cube."""
        shape = (*image.shape[:2], self.parts)
        expected = self._expected(cameras, intrinsics)
        lenses = intrinsics.flatten(0, 1)
        keypoints = self.unet(image.flatten(0, 1), expected)
        seen = on_image_plane(keypoints, lenses).float()
        with torch.autocast(image.device.type, enabled=False):  # bfloat16 is too coarse for places
            points = self.points().float().repeat(shape[0] * shape[1], 1, 1)
            pose = solve_pnp(points, seen.flatten(0, 1))
            # Where no pose is found, points have no projection; its gradient must not be taken.
            there = points @ pose.rotation.mT + pose.translation.unsqueeze(1)
            there = torch.where(pose.found[:, None, None], there, there.new_tensor([0.0, 0.0, -1.0]))
            missed = in_picture(project(there).view(seen.shape), lenses) - in_picture(seen, lenses)
            missed = (missed.abs().clamp_max(2) * pose.found.view(-1, self.parts, 1, 1)).mean()
            # From camera space to the cube's.
            axes, eye = _camera(cameras)
            rotation = axes.mT.unsqueeze(2) @ pose.rotation.unflatten(0, shape)
            translation = pose.translation.unflatten(0, shape) @ axes + eye.unsqueeze(2)
            found = pose.found.view(shape)
            rotation = torch.where(found[..., None, None], rotation, torch.eye(3).to(rotation))
            translation = torch.where(found[..., None], translation, 0)
            placed = self.points().float() @ rotation.mT + translation.unsqueeze(-2)
            return FramePoses(rotation, translation, missed, F.relu(placed.abs() - 1).mean(), keypoints)

    def render(
        self,
        volume: torch.Tensor,
        origins: torch.Tensor,
        directions: torch.Tensor,
        poses: FramePoses,
        generator: torch.Generator | None = None,
        palette: torch.Tensor | None = None,
    ) -> tuple[Rendered, torch.Tensor]:
        """Volumes (B, ...) of the decoder along rays (B, V, H, W, 3) as (B * V, H * W, ...), and the share (P,) of
        density that each part has. With a `palette` (P, 3), parts are shown in its colours."""
        density, color = activate(volume)
        weights = skinning_weights(self._with_prior(volume) if self.parts > 1 else volume[:, :4])
        share = (weights * density).mean((0, 2, 3, 4))
        if palette is not None:
            color = torch.einsum("bpxyz,pc->bcxyz", weights, palette)
        count = origins.shape[1]
        density, color, weights = (own.repeat_interleave(count, 0) for own in (density, color, weights))
        deform = InverseSkinning(
            weights,
            poses.rotation.flatten(0, 1),
            poses.translation.flatten(0, 1),
            density if self.config.claims else None,
        )
        flat = (each.flatten(0, 1).flatten(1, 2) for each in (origins, directions))
        seen = render_rays(
            density,
            color,
            *flat,
            samples=self.config.samples,
            generator=generator,
            deform=None if self.config.motion == "none" else deform,
        )
        return seen, share / share.sum().clamp_min(1e-8)

    def _with_prior(self, volume: torch.Tensor) -> torch.Tensor:
        if self.places is None:
            return volume
        side = volume.shape[-1]
        place = (torch.arange(side, device=volume.device) + 0.5) / side * 2 - 1
        z, y, x = torch.meshgrid(place, place, place, indexing="ij")
        away = (torch.stack([x, y, z], -1).unsqueeze(-2) - self.places.to(volume)).square().sum(-1)
        fixed = torch.cat([torch.zeros(4, side, side, side).to(volume), away.movedim(-1, 0)])
        return volume - self.config.prior * fixed

    def _warm(self, image: torch.Tensor, cameras: torch.Tensor, intrinsics: torch.Tensor) -> torch.Tensor:
        """How far the keypoints are seen from where the cameras would see them."""
        wanted = self._expected(cameras, intrinsics).detach()
        return (self.unet(image.flatten(0, 1)) - wanted).abs().mean()

    def _expected(self, cameras: torch.Tensor, intrinsics: torch.Tensor) -> torch.Tensor:
        """Where cameras (B, V, ...) see the keypoints of parts that have not moved, (B * V, P, N_k, 2)."""
        axes, eye = _camera(cameras.flatten(0, 1))
        points = self.points().float()
        with torch.autocast(points.device.type, enabled=False):
            there = (points.flatten(0, 1) - eye.unsqueeze(1)) @ axes.mT
            return in_picture(project(there), intrinsics.flatten(0, 1)).unflatten(1, points.shape[:2])

    def _equivariance(
        self, image: torch.Tensor, seen: torch.Tensor, expected: torch.Tensor, generator: torch.Generator
    ) -> torch.Tensor:
        """Points of moved pictures against moved points of pictures; pictures (B, 3, H, W), points as `FramePoses`."""
        matrix = torch.eye(2, 3) + 0.1 * torch.randn(len(image), 2, 3, generator=generator)
        matrix = matrix.to(image)
        moved = F.grid_sample(
            image, F.affine_grid(matrix, list(image.shape), align_corners=False), align_corners=False
        )  # fmt: skip
        # A pixel of the moved picture is from where the matrix takes it, in x to the right and y downwards.
        down = image.new_tensor([1.0, -1.0])
        with torch.autocast(image.device.type, enabled=False):
            back = torch.linalg.inv(matrix[..., :2]).mT.unsqueeze(1)
            near = ((expected * down - matrix[:, None, None, :, 2]) @ back) * down
        points = self.unet(moved, near) * down
        with torch.autocast(image.device.type, enabled=False):
            points = (points @ matrix[..., :2].mT.unsqueeze(1) + matrix[:, None, None, :, 2]) * down
        return (points - seen).abs().mean()

    def _pull(self, poses: FramePoses, share: torch.Tensor) -> torch.Tensor:
        """Moves parts with next to no density to the largest part."""
        share = share.detach()
        weak = F.relu(self.config.pull_below - share) / self.config.pull_below
        largest = int(share.argmax())
        away = (poses.rotation - poses.rotation[:, :, largest : largest + 1].detach()).abs().mean((0, 1, 3, 4))
        away = away + (poses.translation - poses.translation[:, :, largest : largest + 1].detach()).abs().mean(
            (0, 1, 3)
        )
        return (weak * away).mean()


def _places(count: int) -> torch.Tensor:
    """(count, 3) on a spiral of radius 0.5 from the bottom to the top."""
    height = torch.linspace(-1, 1, count) if count > 1 else torch.zeros(1)
    turn = torch.arange(count) * torch.pi * (3 - 5**0.5)
    beside = (1 - height.square()).clamp_min(0).sqrt()
    return 0.5 * torch.stack([beside * turn.cos(), beside * turn.sin(), height], -1)


def _camera(cameras: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Axes (..., 3, 3) as rows, of unit length, and eye (..., 3) of `camera_to_canonical` (..., 4, 4)."""
    axes = cameras[..., :3, :3]
    return axes / axes.norm(dim=-1, keepdim=True), cameras[..., 3, :3]


def train_articulated(
    views: ObjectViews,
    config: ArticulatedConfig,
    output: str | Path,
    *,
    vgg: str | Path | None = None,
    seed: int = 0,
    max_minutes: float | None = None,
    checkpoint_steps: int = 200,
    log_steps: int = 25,
    mixed_precision: str | None = None,
) -> ArticulatedAutodecoder:
    """Trains on clips, or with motion "none" on any views; saves `decoder` and `embeddings`, and where there are such
    `keypoints`, `points` and `cameras`, to `output`.

    Every fifth view is left out, for measuring (`ObjectViews.split_views`); refined cameras take all of them. Writes
    `output`/log.jsonl and `output`/checkpoint, from which the same call resumes after a kill. Arguments are those of
    `train_autodecoder`.

    Raises:
        ValueError: the configuration contradicts itself or does not fit the views; the VGG's weights or a checkpoint do
            not fit; `output` holds a run with another configuration or seed; or the loss is not finite any more.
    """
    output = Path(output)
    among = np.arange(views.mask.shape[1]) if config.cameras == "refined" else views.split_views()[0]
    if len(among) < config.views:
        raise ValueError(f"{len(among)} views of an object are trained on, and a step renders {config.views}")
    if config.motion == "given":
        if not isinstance(views, Clips):
            raise ValueError("these views do not tell how parts move; take clips, or other motion than 'given'")
        parts = max(1, config.decoder.get("parts", 0))
        if views.motion.shape[2] > parts:
            raise ValueError(f"the clips have up to {views.motion.shape[2]} parts, and the decoder has {parts}")
    set_seed(seed % 2**32)
    perceptual = VggPyramid(vgg) if vgg else None
    model = ArticulatedAutodecoder(config, len(views), views.mask.shape[1], perceptual).train()
    accelerator = Accelerator(mixed_precision=mixed_precision or best_precision())
    prepared = prepare_views(views, config)
    output.mkdir(parents=True, exist_ok=True)
    _begin(output / "run.json", json.loads(json.dumps({**asdict(config), "seed": seed})))
    corrections = list(model.corrections.parameters()) if model.corrections is not None else []
    keypoints = [*model.unet.parameters(), *model.points.parameters()] if config.motion == "estimated" else []
    own = {id(parameter) for parameter in corrections + keypoints}
    others = [each for each in model.parameters() if each.requires_grad and id(each) not in own]
    groups: list[dict[str, Any]] = [
        {"params": others},
        {"params": corrections, "times": config.camera_lr},
        {"params": keypoints, "times": config.keypoint_lr},
    ]
    optimizer = torch.optim.Adam([group for group in groups if group["params"]], lr=config.lr, betas=config.betas)
    model, optimizer = accelerator.prepare(model, optimizer)

    def loss_of(step: int) -> Losses:
        stage = _stage(config, step)
        rng = np.random.default_rng([seed, step])
        objects = rng.permutation(len(views))[: config.objects]
        chosen = np.stack([rng.permutation(among)[: config.views] for _ in objects])
        batch, more = batch_of(prepared, objects, chosen)
        generator = torch.Generator().manual_seed(seed * 1_000_003 + step)
        loss = model(
            *(tensor.to(accelerator.device) for tensor in batch),
            generator,
            **{name: tensor.to(accelerator.device) for name, tensor in more.items()},
            stage=stage,
        )
        return loss, {"of": stage}

    step = run_steps(
        accelerator,
        optimizer,
        output,
        loss_of,
        name="articulated",
        steps=config.steps,
        lr=config.lr,
        clipped=others + keypoints,
        max_minutes=max_minutes,
        checkpoint_steps=checkpoint_steps,
        log_steps=log_steps,
    )
    found = accelerator.unwrap_model(model)
    about = {**asdict(config), "seed": seed, "trained_steps": step, "perceptual": found.perceptual.name}
    (output / "training_config.json").write_text(json.dumps(about, indent=2))
    found.decoder.save_pretrained(output / "decoder")
    found.embeddings.save_pretrained(output / "embeddings")
    if config.motion == "estimated":
        found.unet.save_pretrained(output / "keypoints")
        found.points.save_pretrained(output / "points")
    if found.corrections is not None:
        from safetensors.torch import save_file

        save_file({name: value.cpu() for name, value in found.corrections.state_dict().items()},
                  output / "cameras.safetensors")  # fmt: skip
    if (output / "log.jsonl").exists():
        plot_log(output)
    return found


def load_articulated(folder: str | Path) -> ArticulatedAutodecoder:
    """What `train_articulated` saved, for evaluation.

    Raises:
        ValueError: the folder holds no such model, or not all of it; names what is missing.
    """
    from safetensors.torch import load_file

    folder = Path(folder)
    try:
        about = json.loads((folder / "training_config.json").read_text())
        names = {each.name for each in fields(ArticulatedConfig)}
        config = ArticulatedConfig(**{name: value for name, value in about.items() if name in names})
        embeddings = ObjectEmbeddings.from_pretrained(folder / "embeddings", use_safetensors=True)
        rough = load_file(folder / "cameras.safetensors") if config.cameras == "refined" else None
        views = 0 if rough is None else rough["turn"].shape[1]
        model = ArticulatedAutodecoder(config, embeddings.config.objects, views)
        model.embeddings = embeddings
        model.decoder = VolumeDecoder.from_pretrained(folder / "decoder", use_safetensors=True)
        if config.motion == "estimated":
            model.unet = KeypointUNet.from_pretrained(folder / "keypoints", use_safetensors=True)
            model.points = CanonicalKeypoints.from_pretrained(folder / "points", use_safetensors=True)
        if rough is not None and model.corrections is not None:
            model.corrections.load_state_dict(rough)
    except (OSError, KeyError, TypeError, RuntimeError, ValueError) as error:
        reason = next((line.strip() for line in str(error).splitlines() if line.strip()), type(error).__name__)
        raise ValueError(f"{folder} holds no model of `train_articulated`: {reason}") from error
    return model.eval()


def _begin(file: Path, about: dict[str, Any]) -> None:
    """Notes what a folder's run is of; ValueError where it holds a run of something else, which would be mixed."""
    before = json.loads(file.read_text()) if file.exists() else about
    differ = sorted(name for name in before.keys() | about.keys() if before.get(name) != about.get(name))
    if differ:
        raise ValueError(f"{file.parent} holds a run with another {', '.join(differ)}; take another folder")
    file.write_text(json.dumps(about, indent=2))


def _stage(config: ArticulatedConfig, step: int) -> str:
    if config.motion != "estimated":
        return "parts"
    if step < config.warm_steps:
        return "warm"
    return "rigid" if step < config.warm_steps + config.rigid_steps else "parts"


def prepare_views(views: ObjectViews, config: ArticulatedConfig) -> ObjectViews:
    """The views as a configuration shows them to its model: as windows, and without cameras where it estimates them."""
    cropped = views.cropped(config.resolution)
    if config.cameras != "estimated":
        return cropped
    return replace(cropped, camera_to_canonical=without_cameras(views).camera_to_canonical)


def batch_of(
    views: ObjectViews, objects: np.ndarray, chosen: np.ndarray
) -> tuple[tuple[torch.Tensor, ...], dict[str, torch.Tensor]]:
    """What `ArticulatedAutodecoder.forward` takes, by place and by name, of objects (B,) and views (B, V)."""
    which = np.broadcast_to(objects[:, None], chosen.shape)
    more = {"cameras": views.camera_to_canonical, "intrinsics": views.intrinsics}
    if isinstance(views, Clips):
        more["motion"] = views.motion
    named = {name: torch.from_numpy(values[which, chosen]).float() for name, values in more.items()}
    return views_of(views, objects, chosen), {**named, "views": torch.from_numpy(np.asarray(chosen, np.int64))}
