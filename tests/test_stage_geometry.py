"""Everything that has a surface becomes triangles: polygons, subdivision, implicit shapes, instancers, skeletons."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pxr import Gf, Sdf, Usd, UsdGeom, UsdSkel, Vt
from stages import add_camera, add_mesh, new_stage

from neuralusd.stage import gather_meshes, read, render_passes
from neuralusd.stage.errors import StageWarning
from neuralusd.stage.subdivide import Topology, refine
from neuralusd.stage.triangulate import triangulate

CUBE = [(x, y, z) for x in (-1, 1) for y in (-1, 1) for z in (-1, 1)]
CUBE_FACES = [(0, 1, 3, 2), (4, 6, 7, 5), (0, 4, 5, 1), (2, 3, 7, 6), (0, 2, 6, 4), (1, 5, 7, 3)]


def only_piece(stage, time=None):
    (piece,) = gather_meshes(stage, time)
    return piece


def areas(mesh) -> np.ndarray:
    a, b, c = (mesh.points[mesh.triangles[:, i]] for i in range(3))
    return np.linalg.norm(np.cross(b - a, c - a), axis=1) / 2


@given(st.integers(0, 2**32 - 1), st.integers(3, 12))
@settings(deadline=None)
def test_triangles_cover_any_simple_polygon_once(seed, count):
    random = np.random.default_rng(seed)
    angle = np.sort(random.uniform(0, 2 * np.pi, count)) + np.arange(count) * 1e-3
    if (np.diff(np.append(angle, angle[0] + 2 * np.pi)) > 3).any():
        return  # the centre is outside, so it would not be a star
    star = np.stack([np.cos(angle), np.sin(angle), 0 * angle], 1) * random.uniform(0.2, 1, (count, 1))
    x, y = star[:, 0], star[:, 1]
    area = abs((x * np.roll(y, -1) - np.roll(x, -1) * y).sum()) / 2
    turned = star @ np.linalg.qr(random.normal(size=(3, 3)))[0]
    corners, faces = triangulate(turned, np.array([count]), np.arange(count))
    a, b, c = (turned[corners[:, i]] for i in range(3))
    normals = np.cross(b - a, c - a) / 2
    assert len(corners) == count - 2 and (faces == 0).all()
    np.testing.assert_allclose(np.linalg.norm(normals, axis=1).sum(), area, rtol=1e-6)
    np.testing.assert_allclose(np.linalg.norm(normals.sum(axis=0)), area, rtol=1e-6)  # all wound the same way


def test_degenerate_faces_are_dropped():
    stage = new_stage()
    add_mesh(stage, "/Mesh", [(0, 0, 0), (1, 0, 0), (0, 1, 0)], [(0, 1), (0, 1, 2)])
    assert only_piece(stage).mesh.faces.tolist() == [1]


@pytest.mark.parametrize(
    ("points", "faces", "what"),
    [([(0, 0, 0)] * 3, [(0, 1, 9)], "from 0 to 9, but there are 3 points"), ([(0, 0, 0)] * 3, [(0, -1, 2)], "from -1"),
     ([(0, 0, 0), (1, 0, 0), (float("nan"), 0, 0)], [(0, 1, 2)], "not finite")],
)  # fmt: skip
def test_broken_topology_is_named_and_left_out(points, faces, what):
    stage = new_stage()
    UsdGeom.Cube.Define(stage, "/Cube")
    mesh = add_mesh(stage, "/Mesh", points, faces)
    with pytest.warns(StageWarning, match=f"</Mesh> is not drawn.*{what}"):
        assert [str(p.path) for p in gather_meshes(stage)] == ["/Cube"]
    mesh.GetFaceVertexCountsAttr().Set([7])
    with pytest.warns(StageWarning, match="add up to 7, but there are 3"):
        gather_meshes(stage)


@pytest.mark.parametrize("axis", ["X", "Y", "Z"])
@pytest.mark.parametrize(
    ("kind", "sizes"),
    [
        ("Cube", {"size": 3.0}),
        ("Sphere", {"radius": 1.5}),
        ("Cylinder", {"radius": 0.5, "height": 3.0}),
        ("Cylinder_1", {"radiusBottom": 1.5, "radiusTop": 0.5, "height": 1.0}),
        ("Cone", {"radius": 0.7, "height": 2.0}),
        ("Capsule", {"radius": 0.5, "height": 1.0}),
        ("Capsule_1", {"radiusBottom": 0.5, "radiusTop": 0.2, "height": 1.0}),
        ("Plane", {"width": 2.0, "length": 6.0}),
    ],
)
def test_implicit_shapes_fill_the_extent_that_usd_computes(kind, sizes, axis):
    stage = new_stage()
    shape = stage.DefinePrim("/Shape", kind)
    for name, value in sizes.items():
        shape.GetAttribute(name).Set(value)
    if shape.HasAttribute("axis"):
        shape.GetAttribute("axis").Set(axis)
    mesh = only_piece(stage).mesh
    expected = UsdGeom.Boundable.ComputeExtentFromPlugins(UsdGeom.Boundable(shape), Usd.TimeCode.Default())
    np.testing.assert_allclose(mesh.bounds, expected, atol=2e-3)
    if kind == "Plane":
        return
    a, b, c = (mesh.points[mesh.triangles[:, i]] for i in range(3))
    faces = np.cross(b - a, c - a)
    solid = areas(mesh) > 1e-9
    outward = (faces[solid][:, None] * mesh.normals[solid]).sum(-1)
    assert (outward > 0).all()  # wound and shaded outwards
    volume = np.einsum("ij,ij->i", a, faces).sum() / 6
    r, h = sizes.get("radius", 0), sizes.get("height", 0)
    bottom, top = sizes.get("radiusBottom", 0), sizes.get("radiusTop", 0)
    exact = {
        "Cube": 27.0,
        "Sphere": 4 / 3 * np.pi * r**3,
        "Cylinder": np.pi * r**2 * h,
        "Cylinder_1": np.pi * h / 3 * (bottom**2 + bottom * top + top**2),
        "Cone": np.pi * r**2 * h / 3,
        "Capsule": np.pi * r**2 * h + 4 / 3 * np.pi * r**3,
    }
    if kind in exact:
        np.testing.assert_allclose(volume, exact[kind], rtol=5e-3)


def cube_topology(sharpness: float | None = None) -> Topology:
    edges = sorted({tuple(sorted(e)) for f in CUBE_FACES for e in zip(f, f[1:] + f[:1], strict=True)})
    creases = np.array(edges if sharpness else np.empty((0, 2)), dtype=np.int64).reshape(-1, 2)
    return Topology(
        np.full(6, 4), np.ravel(CUBE_FACES), 8, creases, np.full(len(creases), sharpness or 0.0), np.zeros(8)
    )


def test_one_level_of_catmull_clark_on_a_cube():
    # Vertex point (Q + 2 R + (n - 3) P) / n with n = 3, Q = 1/3, R = 2/3: 5/9. Edge points 3/4, face points 1.
    refined = refine(cube_topology(), "catmullClark", 1)
    points = refined.points_from @ np.array(CUBE, float)
    np.testing.assert_allclose(np.abs(points[:8]), 5 / 9)
    np.testing.assert_allclose(np.sort(np.abs(points[8:20]), axis=1), np.tile([0, 0.75, 0.75], (12, 1)))
    np.testing.assert_allclose(np.sort(np.abs(points[20:]), axis=1), np.tile([0, 0, 1], (6, 1)))


def test_creases_hold_as_long_as_they_are_sharp():
    def reach(sharpness):
        refined = refine(cube_topology(sharpness), "catmullClark", 3)
        return np.abs(refined.points_from @ np.array(CUBE, float)).sum(axis=1).max()

    reached = [reach(s) for s in (None, 0.5, 1.0, 1.5, 2.0, 3.0, 10.0)]
    assert (np.diff(reached)[:-1] > 1e-3).all()
    np.testing.assert_allclose(reached[-2:], 3)  # a corner that is still sharp after three levels has not moved
    weights = refine(cube_topology(1.5), "catmullClark", 2).points_from
    np.testing.assert_allclose(weights.sum(axis=1), 1)
    assert weights.data.min() > -1e-12


def test_loop_is_what_another_implementation_makes():
    trimesh = pytest.importorskip("trimesh")
    ball = trimesh.creation.icosphere(subdivisions=1)
    ball.vertices *= [1, 2, 3]
    topology = Topology(np.full(len(ball.faces), 3), ball.faces.ravel(), len(ball.vertices), np.empty((0, 2), int),
                        np.empty(0), np.zeros(len(ball.vertices)))  # fmt: skip
    ours = refine(topology, "loop", 2).points_from @ ball.vertices
    theirs, _ = trimesh.remesh.subdivide_loop(ball.vertices, ball.faces, iterations=2)
    order = [np.lexsort(np.round(p, 6).T) for p in (ours, theirs)]
    np.testing.assert_allclose(ours[order[0]], theirs[order[1]], atol=1e-6)


@pytest.mark.parametrize("scheme", ["catmullClark", "loop", "bilinear"])
def test_primvars_follow_the_refined_points(scheme):
    # A primvar that equals the points must stay equal to them; face-varying values stay linear in their face.
    stage = new_stage()
    faces = [(0, 1, 4, 3), (1, 2, 5, 4)] if scheme != "loop" else [(0, 1, 4), (0, 4, 3), (1, 2, 5), (1, 5, 4)]
    points = np.array([(x, y, 0) for y in (0, 1) for x in (0, 1, 2)], float)
    add_mesh(stage, "/Sheet", points, faces, scheme)
    mesh = only_piece(stage).mesh
    every = np.arange(len(mesh.triangles))
    assert len(every) > 4 * len(faces)
    same = mesh.on_corners(mesh.refine(points, "vertex"), "vertex", every)
    np.testing.assert_allclose(same, mesh.points[mesh.triangles], atol=1e-6)
    uniform = np.arange(len(faces), dtype=float)[:, None]
    shown = mesh.on_corners(mesh.refine(uniform, "uniform"), "uniform", every)[..., 0]
    centres = mesh.points[mesh.triangles].mean(axis=1)
    assert (centres[(shown >= len(faces) / 2).all(axis=1), 0] > 1).all()
    corners = points[np.concatenate(faces)]
    varying = mesh.on_corners(mesh.refine(corners, "faceVarying"), "faceVarying", every)
    assert varying.min() == 0 and varying[..., 0].max() == 2
    if scheme == "bilinear":
        np.testing.assert_allclose(varying, mesh.points[mesh.triangles], atol=1e-6)


def test_boundaries_and_holes():
    stage = new_stage()
    points = [(x, y, 0) for y in range(4) for x in range(4)]
    faces = [(4 * y + x, 4 * y + x + 1, 4 * y + x + 5, 4 * y + x + 4) for y in range(3) for x in range(3)]
    mesh = add_mesh(stage, "/Sheet", points, faces, "catmullClark")
    assert areas(only_piece(stage).mesh).sum() == pytest.approx(9, abs=1e-6)  # edgeAndCorner keeps the corners
    mesh.CreateInterpolateBoundaryAttr("edgeOnly")
    assert 8.5 < areas(only_piece(stage).mesh).sum() < 8.99
    mesh.CreateInterpolateBoundaryAttr("none")
    assert set(only_piece(stage).mesh.faces) == {4}
    mesh.CreateInterpolateBoundaryAttr("edgeAndCorner")
    mesh.CreateHoleIndicesAttr([4])
    assert set(only_piece(stage).mesh.faces) == set(range(9)) - {4}


def test_refinement_grows_with_what_there_is_to_gain():
    stage = new_stage()
    add_mesh(stage, "/Cube", CUBE, CUBE_FACES, "catmullClark")
    assert len(only_piece(stage).mesh.triangles) == 6 * 4**4 * 2
    size = 150
    points = [(x, y, 0) for y in range(size + 1) for x in range(size + 1)]
    faces = [(i, i + 1, i + size + 2, i + size + 1) for i in range(size * (size + 1)) if (i + 1) % (size + 1)]
    big = new_stage()
    add_mesh(big, "/Big", points, faces, "catmullClark")
    assert len(only_piece(big).mesh.triangles) == 2 * len(faces)


def instancer_of_cubes(stage, path="/Cubes") -> UsdGeom.PointInstancer:
    instancer = UsdGeom.PointInstancer.Define(stage, path)
    UsdGeom.Cube.Define(stage, f"{path}/Protos/Small").CreateSizeAttr(1.0)
    UsdGeom.Cube.Define(stage, f"{path}/Protos/Large").AddTranslateOp().Set((0, 0, 10))
    instancer.CreatePrototypesRel().SetTargets([f"{path}/Protos/Small", f"{path}/Protos/Large"])
    return instancer


def test_point_instances_are_placed_turned_scaled_and_masked():
    stage = new_stage("Y", 0.01)
    UsdGeom.Xform.Define(stage, "/World").AddTranslateOp().Set((100, 0, 0))
    instancer = instancer_of_cubes(stage, "/World/Cubes")
    instancer.CreateProtoIndicesAttr([0, 1, 0, 1])
    instancer.CreatePositionsAttr([(0, 0, 0), (5, 0, 0), (10, 0, 0), (15, 0, 0)])
    turn = Gf.Rotation(Gf.Vec3d.YAxis(), 90).GetQuat()
    instancer.CreateOrientationsAttr(Vt.QuathArray([Gf.Quath(1), Gf.Quath(turn), Gf.Quath(1), Gf.Quath(1)]))
    instancer.CreateScalesAttr([(1, 1, 1), (1, 2, 3), (1, 1, 1), (1, 1, 1)])
    instancer.CreateIdsAttr([7, 8, 9, 10])
    instancer.CreateInvisibleIdsAttr([9])
    pieces = gather_meshes(stage)
    assert [len(pieces), {str(p.path) for p in pieces}] == [3, {"/World/Cubes"}]
    # The second is its prototype at (0, 0, 10), scaled by (1, 2, 3), a quarter turn about Y, then moved by (5, 0, 0).
    second = pieces[1].local_to_world
    np.testing.assert_allclose(second[3, :3], [1 + 0.05 + 0.3, 0, 0], atol=1e-3)
    np.testing.assert_allclose(np.array([0, 0, 1, 0]) @ second, [0.03, 0, 0, 0], atol=1e-4)
    # And all of them lie within the box that USD computes, which is then the asset's.
    scene = read(stage)
    low, high = scene.assets[0].corners()[[0, 7]]
    for piece in pieces:
        world = piece.mesh.points @ piece.local_to_world[:3, :3] + piece.local_to_world[3, :3]
        assert (world >= low - 1e-6).all() and (world <= high + 1e-6).all()


def test_point_instances_move_and_instancers_nest():
    stage = new_stage()
    inner = instancer_of_cubes(stage, "/Outer/Inner")
    inner.CreateProtoIndicesAttr([0, 0])
    inner.CreatePositionsAttr([(0, 0, 0), (0, 3, 0)])
    outer = UsdGeom.PointInstancer.Define(stage, "/Outer")
    outer.CreatePrototypesRel().SetTargets(["/Outer/Inner"])
    outer.CreateProtoIndicesAttr([0, 0])
    positions = outer.CreatePositionsAttr()
    positions.Set([(0, 0, 0), (10, 0, 0)], 1)
    positions.Set([(0, 0, 0), (20, 0, 0)], 2)
    places = {tuple(p.local_to_world[3, :3]) for p in gather_meshes(stage, 2)}
    assert places == {(0, 0, 0), (0, 3, 0), (20, 0, 0), (20, 3, 0)}
    assert {str(p.path) for p in gather_meshes(stage, 2)} == {"/Outer"}


def test_prototypes_may_be_overs_and_classes():
    stage = new_stage()
    instancer = instancer_of_cubes(stage)
    stage.GetPrimAtPath("/Cubes/Protos").SetSpecifier(Sdf.SpecifierOver)
    instancer.CreateProtoIndicesAttr([0])
    instancer.CreatePositionsAttr([(0, 0, 0)])
    assert len(gather_meshes(stage)) == 1


@pytest.mark.parametrize(
    ("indices", "positions", "what"),
    [([0, 5], [(0, 0, 0)] * 2, "protoIndices from 0 to 5 for 2"), ([0, 1], [(0, 0, 0)], "2 protoIndices, but")],
)
def test_an_instancer_that_contradicts_itself_is_named(indices, positions, what):
    stage = new_stage()
    instancer = instancer_of_cubes(stage)
    instancer.CreateProtoIndicesAttr(indices)
    instancer.CreatePositionsAttr(positions)
    with pytest.warns(StageWarning, match=f"</Cubes> is not drawn.*{what}"):
        assert gather_meshes(stage) == []


def test_instances_share_their_triangles():
    stage = new_stage()
    UsdGeom.Sphere.Define(stage, "/Library/Ball/Geometry")
    for index in range(3):
        ball = UsdGeom.Xform.Define(stage, f"/World/Ball{index}").GetPrim()
        ball.GetReferences().AddInternalReference("/Library/Ball")
        ball.SetInstanceable(True)
    pieces = [p for p in gather_meshes(stage) if str(p.path).startswith("/World")]
    assert len(pieces) == 3 and len({id(p.mesh) for p in pieces}) == 1


def character() -> Usd.Stage:
    """A strip of two quads, the upper one on a joint that turns by 90 degrees from time 1 to 2, with a blend shape."""
    stage = new_stage()
    UsdGeom.Xform(UsdSkel.Root.Define(stage, "/Body")).AddTranslateOp().Set((1, 0, 0))
    skeleton = UsdSkel.Skeleton.Define(stage, "/Body/Skeleton")
    skeleton.CreateJointsAttr(["A", "A/B"])
    rest = [Gf.Matrix4d(1), Gf.Matrix4d().SetTranslate((0, 2, 0))]
    skeleton.CreateBindTransformsAttr(rest)
    skeleton.CreateRestTransformsAttr(rest)
    points = [(x, y, 0) for y in (0, 2, 4) for x in (-0.5, 0.5)]
    mesh = add_mesh(stage, "/Body/Mesh", points, [(0, 1, 3, 2), (2, 3, 5, 4)])
    binding = UsdSkel.BindingAPI.Apply(mesh.GetPrim())
    binding.CreateSkeletonRel().SetTargets(["/Body/Skeleton"])
    binding.CreateJointIndicesPrimvar(False, 1).Set([0, 0, 0, 0, 1, 1])
    binding.CreateJointWeightsPrimvar(False, 1).Set([1.0] * 6)
    animation = UsdSkel.Animation.Define(stage, "/Body/Animation")
    animation.CreateJointsAttr(["A", "A/B"])
    animation.CreateTranslationsAttr([(0, 0, 0), (0, 2, 0)])
    animation.CreateScalesAttr([(1, 1, 1)] * 2)
    turn = Gf.Quatf(Gf.Rotation(Gf.Vec3d.ZAxis(), 90).GetQuat())
    animation.CreateRotationsAttr().Set([Gf.Quatf(1), Gf.Quatf(1)], 1)
    animation.GetRotationsAttr().Set([Gf.Quatf(1), turn], 2)
    UsdSkel.BindingAPI.Apply(skeleton.GetPrim()).CreateAnimationSourceRel().SetTargets(["/Body/Animation"])
    shape = UsdSkel.BlendShape.Define(stage, "/Body/Mesh/Wide")
    shape.CreateOffsetsAttr([(-1, 0, 0), (1, 0, 0)])
    shape.CreatePointIndicesAttr([0, 1])
    binding.CreateBlendShapesAttr(["wide"])
    binding.CreateBlendShapeTargetsRel().SetTargets(["/Body/Mesh/Wide"])
    animation.CreateBlendShapesAttr(["wide"])
    animation.CreateBlendShapeWeightsAttr().Set([0.0], 1)
    animation.GetBlendShapeWeightsAttr().Set([1.0], 2)
    return stage


def test_skeletons_and_blend_shapes_deform():
    stage = character()
    np.testing.assert_allclose(read(stage, time=1).assets[0].extent, [[-0.5, 0, 0], [0.5, 4, 0]])
    np.testing.assert_allclose(read(stage, time=2).assets[0].extent, [[-2, 0, 0], [1.5, 2.5, 0]], atol=1e-6)
    np.testing.assert_allclose(
        only_piece(stage, 2).mesh.points,
        [(-1.5, 0, 0), (1.5, 0, 0), (-0.5, 2, 0), (0.5, 2, 0), (-2, 1.5, 0), (-2, 2.5, 0)],
        atol=1e-6,
    )
    add_camera(stage, (0, 2, 14), (0, 2, 0))
    passes = render_passes(stage, read(stage, time=2), 40, 40, color=False)
    assert passes.points[..., 0][passes.mask(0)].min() == pytest.approx(-2, abs=0.3)


def test_a_characters_other_geometry_counts_too():
    stage = character()
    UsdGeom.Cube.Define(stage, "/Body/Hat").AddTranslateOp().Set((0, 9, 0))
    np.testing.assert_allclose(read(stage, time=1).assets[0].extent, [[-1, 0, -1], [1, 10, 1]])
    UsdSkel.Root(stage.GetPrimAtPath("/Body")).CreateExtentAttr([(-3, -3, -3), (3, 12, 3)])
    np.testing.assert_allclose(read(stage, time=1).assets[0].extent, [[-3, -3, -3], [3, 12, 3]])


def test_a_view_of_too_much_names_what_is_most(monkeypatch):
    from neuralusd.errors import SceneError
    from neuralusd.surfaces import rays

    stage = new_stage()
    UsdGeom.Cube.Define(stage, "/Cube")
    UsdGeom.Sphere.Define(stage, "/Ball")
    monkeypatch.setattr(rays, "MOST_TRIANGLES", 1000)
    with pytest.raises(SceneError, match="of which </Ball> has 9,216; 1,000 are the most"):
        render_passes(stage, read(stage), 8, 8)
