"""Differentiable Perspective-n-Point: poses from points in space and where a camera sees them (3DVADER, section 3.2).

Closed forms start it: EPnP (Lepetit et al., 2009); scaled orthography for points in a plane or seen from afar, where
EPnP has no one answer; and the homography of a plane. Levenberg-Marquardt brings every start to the least reprojection
error, and the best is taken. All of that is without gradients; one Newton step more, from where the gradient is zero,
changes nothing and has the derivatives of the implicit function theorem: those of the optimum itself, with respect to
points, image points and weights.

Camera space looks down -Z with +Y up. Image points are where rays meet the plane z = -1: (x / -z, y / -z).
"""

from __future__ import annotations

from dataclasses import dataclass

import torch

_ITERATIONS = 20
# Of the points' spread along their second axis over that along their first; below it they are on a line.
_LINE = 1e-3
# Likewise along the third; below it they are in a plane.
_PLANE = 1e-2


@dataclass
class Pose:
    """Poses that take points to camera space, `rotation @ point + translation`.

    Attributes:
        rotation: (B, 3, 3). translation: (B, 3).
        error: (B,) weighted mean of the squared reprojection error; without gradients.
        found: (B,) bool. Where the points do not tell a pose (on a line, all at one place, too few with weight, not
            finite) it is False, and rotation and translation are the identity's, without gradients.
    """

    rotation: torch.Tensor
    translation: torch.Tensor
    error: torch.Tensor
    found: torch.Tensor


def project(points: torch.Tensor) -> torch.Tensor:
    """Points (..., 3) of camera space to image points (..., 2)."""
    return points[..., :2] / -points[..., 2:]


def solve_pnp(points: torch.Tensor, image: torch.Tensor, weights: torch.Tensor | None = None) -> Pose:
    """The pose under which points are seen at image points, with the least weighted squared error.

    Args:
        points: (B, N, 3), at least four. image: (B, N, 2). weights: (B, N), at least 0; None counts all the same.

    Raises:
        ValueError: there are fewer than four points.
    """
    if points.shape[1] < 4:
        raise ValueError(f"a pose takes four points or more; there are {points.shape[1]}")
    kind = points.dtype
    weights = torch.ones_like(points[..., 0]) if weights is None else weights.clamp_min(0)
    usable = (points.isfinite().all(-1) & image.isfinite().all(-1) & weights.isfinite()).all(-1)
    usable = usable & ((weights > 0).sum(-1) >= 4)
    # Instead of what is not usable, points that are; their pose is thrown away.
    usual = _usual(points)
    points, image, weights = (
        torch.where(usable.view(-1, *[1] * (own.ndim - 1)), own.double(), other.double())
        for own, other in zip((points, image, weights), usual, strict=True)
    )
    weights = weights / weights.sum(-1, keepdim=True)
    with torch.no_grad():
        rotation, translation, error, found = _solve(points, image, weights)
        found = found & usable
    rotation, translation, convex = _newton(points, image, weights, rotation, translation)
    found = found & convex
    return Pose(
        rotation=torch.where(found[:, None, None], rotation, torch.eye(3).to(rotation)).to(kind),
        translation=torch.where(found[:, None], translation, torch.zeros_like(translation)).to(kind),
        error=error.to(kind),
        found=found,
    )


def _usual(points: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Points, image points and weights of a pose that is easily found."""
    turn = torch.arange(points.shape[1], device=points.device, dtype=torch.float64)
    corners = torch.stack([turn.cos(), turn.sin(), (2.7 * turn).sin()], -1).expand(points.shape)
    seen = project(corners - corners.new_tensor([0, 0, 4]))
    return corners, seen, torch.ones_like(corners[..., 0])


def _solve(points: torch.Tensor, image: torch.Tensor, weights: torch.Tensor) -> tuple[torch.Tensor, ...]:
    """Rotation, translation, error and whether there is a pose, without gradients."""
    middle = (weights.unsqueeze(-1) * points).sum(1, keepdim=True)
    around = points - middle
    spread = (weights.unsqueeze(-1) * around).mT @ around
    variances, axes = torch.linalg.eigh(spread)
    variances, axes = variances.flip(-1).clamp_min(0), axes.flip(-1)
    axes = axes * torch.linalg.det(axes).sign()[:, None, None]  # right-handed
    size = variances.sum(-1).sqrt()
    told = (size > 1e-9) & (variances[:, 1] > _LINE**2 * variances[:, 0])
    size = torch.where(size > 1e-9, size, 1)
    # In the points' own axes and of size 1, so that no threshold depends on units.
    local = around @ axes / size[:, None, None]
    lengths = variances.sqrt() / size.unsqueeze(-1)
    starts = [
        *_scaled_orthography(local, image, weights, lengths),
        _homography(local, image, weights),
        *_epnp(local, image, weights, lengths),
    ]
    count = len(starts)
    rotation = torch.stack([start[0] for start in starts], 1).flatten(0, 1)
    translation = torch.stack([start[1] for start in starts], 1).flatten(0, 1)
    rotation, translation, errors = _levenberg_marquardt(
        local.repeat_interleave(count, 0),
        image.repeat_interleave(count, 0),
        weights.repeat_interleave(count, 0),
        rotation,
        translation,
    )
    error, best = errors.view(-1, count).min(1)
    row = torch.arange(len(best), device=best.device)
    rotation = rotation.view(-1, count, 3, 3)[row, best] @ axes.mT
    translation = translation.view(-1, count, 3)[row, best] * size.unsqueeze(-1)
    translation = translation - (rotation @ middle.mT).squeeze(-1)
    found = told & error.isfinite()
    return rotation, translation, torch.where(found, error, torch.zeros_like(error)), found


def _scaled_orthography(
    local: torch.Tensor, image: torch.Tensor, weights: torch.Tensor, lengths: torch.Tensor
) -> list[tuple[torch.Tensor, torch.Tensor]]:
    """Two poses under which depth differs little among the points. Of points in a plane both are possible, and are each
    other's reflection; otherwise they are one."""
    seen = (weights.unsqueeze(-1) * image).sum(1, keepdim=True)
    cross = (image - seen).mT @ (weights.unsqueeze(-1) * local)
    flat = lengths[:, 2] < _PLANE
    affine = cross / lengths.square().clamp_min(1e-12).unsqueeze(1)
    affine = torch.where((flat[:, None] & (torch.arange(3, device=flat.device) == 2)).unsqueeze(1), 0, affine)
    values, vectors = torch.linalg.eigh(affine @ affine.mT)
    missing = (values[:, 1] - values[:, 0]).clamp_min(0).sqrt().unsqueeze(-1) * vectors[:, :, 0]
    poses = []
    for sign in (1, -1):
        whole = affine.clone()
        whole[:, :, 2] += torch.where(flat.unsqueeze(-1), sign * missing, 0)
        left, stretch, right = torch.linalg.svd(whole, full_matrices=False)
        rows = left @ right
        rotation = torch.cat([rows, torch.linalg.cross(rows[:, :1], rows[:, 1:])], 1)
        depth = 1 / stretch.mean(-1, keepdim=True).clamp_min(1e-6)
        poses.append((rotation, torch.cat([seen.squeeze(1) * depth, -depth], -1)))
    return poses


def _homography(local: torch.Tensor, image: torch.Tensor, weights: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """The pose of points in the plane of their first two axes, from the linear map of that plane to the picture."""
    flat = torch.cat([local[..., :2], torch.ones_like(local[..., :1])], -1)
    none = torch.zeros_like(flat)
    # X + u Z = 0 and Y + v Z = 0, where (X, Y, Z) is linear in (x, y, 1).
    rows = torch.cat(
        [torch.cat([flat, none, image[..., :1] * flat], -1), torch.cat([none, flat, image[..., 1:] * flat], -1)], 1
    )
    rows = rows * torch.cat([weights, weights], 1).sqrt().unsqueeze(-1)
    found = torch.linalg.eigh(rows.mT @ rows)[1][:, :, 0].unflatten(-1, (3, 3))
    found = found / found[:, :, :2].norm(dim=1).mean(-1).clamp_min(1e-9)[:, None, None]
    found = found * torch.where(found[:, 2, 2] > 0, -1.0, 1.0)[:, None, None].to(found.dtype)  # before the camera
    left, _, right = torch.linalg.svd(found[:, :, :2], full_matrices=False)
    columns = left @ right
    rotation = torch.cat([columns, torch.linalg.cross(columns[:, :, :1], columns[:, :, 1:], dim=1)], 2)
    return rotation, found[:, :, 2]


def _epnp(
    local: torch.Tensor, image: torch.Tensor, weights: torch.Tensor, lengths: torch.Tensor
) -> list[tuple[torch.Tensor, torch.Tensor]]:
    """EPnP's poses for one, two and three of the vectors in the null space of its equations (its section 3.3)."""
    batch, count = local.shape[:2]
    # Control points: the middle, and one along each axis. Points in a plane do not use the last.
    reach = lengths.clamp_min(_PLANE)
    along = local / reach.unsqueeze(1)
    share = torch.cat([1 - along.sum(-1, keepdim=True), along], -1)
    control = torch.cat([torch.zeros_like(reach).unsqueeze(1), torch.diag_embed(reach)], 1)
    # x + u z = 0 and y + v z = 0 of every point, in the control points' coordinates in camera space.
    nothing = torch.zeros_like(share)
    across = torch.stack([share, nothing, share * image[..., :1]], -1).flatten(2)
    upward = torch.stack([nothing, share, share * image[..., 1:]], -1).flatten(2)
    system = torch.cat([across, upward], 1) * weights.repeat(1, 2).sqrt().unsqueeze(-1)
    vectors = torch.linalg.eigh(system.mT @ system).eigenvectors[..., :3].mT.reshape(batch, 3, 4, 3)
    first, second = torch.triu_indices(4, 4, 1, device=local.device)
    steps = vectors[:, :, first] - vectors[:, :, second]  # (B, vector, pair, 3)
    lengths_between = (control[:, first] - control[:, second]).norm(dim=-1)
    poses = []
    for used in (1, 2, 3):
        left, right = torch.triu_indices(used, used, device=local.device)
        twice = torch.where(left == right, 1.0, 2.0)
        products = (steps[:, left] * steps[:, right]).sum(-1) * twice[:, None]
        squares = torch.linalg.pinv(products.mT) @ lengths_between.square().unsqueeze(-1)
        squares = squares.squeeze(-1)
        factors = []
        for index in range(used):
            own = squares[:, (left == index) & (right == index)].abs().sqrt()
            sign = 1 if index == 0 else torch.where(squares[:, (left == 0) & (right == index)] < 0, -1.0, 1.0)
            factors.append(own * sign)
        found = (torch.cat(factors, -1)[:, :, None, None] * vectors[:, :used]).sum(1)
        there = share @ found
        behind = (weights * there[..., 2]).sum(-1) > 0
        poses.append(_aligned(local, torch.where(behind[:, None, None], -there, there), weights))
    return poses


def _aligned(points: torch.Tensor, there: torch.Tensor, weights: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """The rigid motion that takes points (B, N, 3) nearest to others (Kabsch, 1976)."""
    weight = weights.unsqueeze(-1)
    start, end = (weight * points).sum(1, keepdim=True), (weight * there).sum(1, keepdim=True)
    left, _, right = torch.linalg.svd((weight * (there - end)).mT @ (points - start))
    handed = torch.ones_like(start.squeeze(1))
    handed[:, 2] = torch.linalg.det(left @ right).sign()
    rotation = left @ (handed.unsqueeze(-1) * right)
    return rotation, (end - start @ rotation.mT).squeeze(1)


def _levenberg_marquardt(
    points: torch.Tensor,
    image: torch.Tensor,
    weights: torch.Tensor,
    rotation: torch.Tensor,
    translation: torch.Tensor,
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Poses of least error near to those given, and the errors; infinite where points are behind the camera."""
    damping = torch.full_like(weights[:, 0], 1e-3)
    error = _error(points, image, weights, rotation, translation)
    for _ in range(_ITERATIONS):
        there = points @ rotation.mT + translation.unsqueeze(1)
        missed, slope = _residual(there, image)
        weighted = slope * weights[..., None, None]
        gradient = (weighted * missed.unsqueeze(-1)).sum((1, 2))
        hessian = (weighted.unsqueeze(-1) * slope.unsqueeze(-2)).sum((1, 2))
        scale = torch.diagonal(hessian, dim1=-2, dim2=-1).clamp_min(1e-9)
        step, failed = torch.linalg.solve_ex(hessian + torch.diag_embed(damping.unsqueeze(-1) * scale), -gradient)
        step = torch.where((failed == 0).unsqueeze(-1) & step.isfinite(), step, 0)
        moved = _moved(rotation, translation, step)
        others = _error(points, image, weights, *moved)
        better = (others < error) | ~error.isfinite() & others.isfinite()
        rotation = torch.where(better[:, None, None], moved[0], rotation)
        translation = torch.where(better[:, None], moved[1], translation)
        error = torch.where(better, others, error)
        damping = torch.where(better, damping / 5, damping * 8).clamp(1e-12, 1e6)
    return rotation, translation, error


def _error(
    points: torch.Tensor, image: torch.Tensor, weights: torch.Tensor, rotation: torch.Tensor, translation: torch.Tensor
) -> torch.Tensor:
    there = points @ rotation.mT + translation.unsqueeze(1)
    error = (weights * (project(there) - image).square().sum(-1)).sum(-1)
    seen = ((there[..., 2] < -1e-6) | (weights == 0)).all(-1) & error.isfinite()
    return torch.where(seen, error, torch.inf)


def _residual(there: torch.Tensor, image: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """How far points of camera space (B, N, 3) are seen from where they should be (B, N, 2), and its derivatives
    (B, N, 2, 6) by a small turn about the camera's axes and a small shift."""
    depth = -there[..., 2]
    ahead = torch.where(depth.abs() < 1e-9, 1e-9, depth)
    seen = there[..., :2] / ahead.unsqueeze(-1)
    nothing = torch.zeros_like(ahead)
    by_point = torch.stack(
        [
            torch.stack([1 / ahead, nothing, seen[..., 0] / ahead], -1),
            torch.stack([nothing, 1 / ahead, seen[..., 1] / ahead], -1),
        ],
        -2,
    )
    return seen - image, torch.cat([-by_point @ _cross(there), by_point], -1)


def _cross(vector: torch.Tensor) -> torch.Tensor:
    """(..., 3, 3): the matrix whose product with another vector is the cross product."""
    x, y, z = vector.unbind(-1)
    zero = torch.zeros_like(x)
    return torch.stack([zero, -z, y, z, zero, -x, -y, x, zero], -1).unflatten(-1, (3, 3))


def _moved(rotation: torch.Tensor, translation: torch.Tensor, step: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """A pose after a turn about the camera's axes and a shift: step (B, 6)."""
    turn = torch.linalg.matrix_exp(_cross(step[:, :3]))
    return turn @ rotation, (turn @ translation.unsqueeze(-1)).squeeze(-1) + step[:, 3:]


def _newton(
    points: torch.Tensor, image: torch.Tensor, weights: torch.Tensor, rotation: torch.Tensor, translation: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """One step of Newton's method, with gradients, and whether the error is convex there."""
    there = points @ rotation.mT + translation.unsqueeze(1)
    missed, slope = _residual(there, image)
    gradient = ((weights[..., None, None] * slope) * missed.unsqueeze(-1)).sum((1, 2))
    with torch.no_grad():
        hessian = _hessian(there, missed, slope, weights)
        # Turns and shifts in like units.
        unit = torch.diagonal(hessian, dim1=-2, dim2=-1).clamp_min(1e-30).rsqrt()
        alike = hessian * unit.unsqueeze(-1) * unit.unsqueeze(-2)
        _, failed = torch.linalg.cholesky_ex(alike - 1e-10 * torch.eye(6).to(alike))
        convex = (failed == 0) & alike.isfinite().all(-1).all(-1)
        alike = torch.where(convex[:, None, None], alike, torch.eye(6).to(alike))
        inverse = torch.linalg.inv(alike) * unit.unsqueeze(-1) * unit.unsqueeze(-2)
    # Zeros times what is not finite would be no zeros.
    gradient = torch.where(convex.unsqueeze(-1), gradient, 0)
    return *_moved(rotation, translation, -(inverse @ gradient.unsqueeze(-1)).squeeze(-1)), convex


def _hessian(there: torch.Tensor, missed: torch.Tensor, slope: torch.Tensor, weights: torch.Tensor) -> torch.Tensor:
    """(B, 6, 6): the second derivatives of half the error by a small turn and shift."""
    depth = -there[..., 2]
    seen = there[..., :2] / depth.unsqueeze(-1)
    # Of the point: by a turn (cross product with it) and a shift, and its second derivative by two turns.
    eye = torch.eye(3).to(there)
    by_step = torch.cat([-_cross(there), eye.expand(*there.shape[:-1], 3, 3)], -1)
    outer = eye.unsqueeze(-1) * there[..., None, None, :]  # [a, b, c]: a = b, times the point's c
    mixed = torch.einsum("ca,...b->...abc", eye, there)  # c = a, times the point's b
    twice = (mixed + mixed.transpose(-3, -2)) / 2 - outer
    # Of the image point by the point: d2(x / d) with d = -z has only entries with z.
    total = (weights[..., None, None, None] * slope.unsqueeze(-1) * slope.unsqueeze(-2)).sum((1, 2))
    for axis in (0, 1):
        bent = torch.zeros(*there.shape[:-1], 3, 3).to(there)
        bent[..., axis, 2] = bent[..., 2, axis] = 1 / depth.square()
        bent[..., 2, 2] = 2 * seen[..., axis] / depth.square()
        by_point = torch.zeros_like(there)
        by_point[..., axis] = 1 / depth
        by_point[..., 2] = seen[..., axis] / depth
        second = by_step.mT @ bent @ by_step
        second[..., :3, :3] += (twice * by_point[..., None, None, :]).sum(-1)
        total = total + ((weights * missed[..., axis])[..., None, None] * second).sum(1)
    return total
