"""What a sample means to stand is set upright, on what is below it, and out of what it reaches into."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.spatial.transform import Rotation
from tiny_resample import room

from neuralusd import stage as stages
from neuralusd.api.resample_tries import draw_to_stand
from neuralusd.latents import ObjectLatents
from neuralusd.stage.apart import Standing, push_apart
from neuralusd.stage.latents import placed_anew, quaternion_of
from neuralusd.stage.settle import flaws, ground_of_pieces, settle
from neuralusd.stage.views import Views


class TestSettling:
    def ground(self, up):
        stage = room(None, up)
        scene = stages.read(stage)
        views = Views(stage, scene)
        shell = scene.assets.index(scene.background)
        pieces = [piece for piece, owner in zip(views.pieces, views.owners, strict=True) if owner == shell]
        return scene, *ground_of_pieces(pieces, up)

    def settled(self, up, one, moved=True, others=()):
        scene, floor, _ = self.ground(up)
        made = settle(scene, [one(scene), *others], [moved, *[False] * len(others)], floor)[0]
        return scene, made

    def box(self, scene, one):
        matrix, extent = placed_anew(scene, one)
        corners = np.array([[x, y, z] for x in extent[:, 0] for y in extent[:, 1] for z in extent[:, 2]])
        return corners @ matrix[:3, :3] + matrix[3, :3]

    def made(self, scene, place, tilt=0.0, yaw=0.0, scale=(0.4, 0.4, 0.8)):
        """An object at a place in metres, Y up, leaning by `tilt` degrees."""
        up = scene.up_axis
        turn = Rotation.from_euler("zx", [yaw, tilt], degrees=True).as_matrix().T  # canonical axes, row vectors
        axes = np.eye(3) if up == "Z" else np.array([[1.0, 0, 0], [0, 0, -1.0], [0, 1.0, 0]])
        world = np.array(place) if up == "Y" else np.array(place)[[0, 2, 1]] * [1, -1, 1]
        rotation = turn @ axes @ scene.camera.world_to_camera[:3, :3]
        return ObjectLatents(scene.camera.to_camera(world), quaternion_of(rotation), np.array(scale))

    @pytest.mark.parametrize("up", ["Y", "Z"])
    @pytest.mark.parametrize("height", [0.25, 0.62])
    def test_what_floats_or_is_sunk_a_little_stands_on_the_floor(self, up, height):
        scene, one = self.settled(up, lambda scene: self.made(scene, (1, height, 1), tilt=12, yaw=35))
        axis = 1 if up == "Y" else 2
        corners = self.box(scene, one)
        assert corners[:, axis].min() == pytest.approx(0, abs=1e-5)
        assert corners[:, axis].max() == pytest.approx(0.8, abs=1e-5)  # upright
        wanted = self.box(scene, self.made(scene, (1, 0.4, 1), yaw=35))
        assert np.allclose(np.sort(corners, axis=0), np.sort(wanted, axis=0), atol=0.05)  # its yaw was kept

    @pytest.mark.parametrize(
        ("place", "tilt", "moved"),
        [((1, 1.6, 1), 0, True), ((1, 0.9, 1), 45, True), ((1, 0.5, 1), 5, False)],
        ids=["hangs", "leans", "is kept"],
    )
    def test_what_hangs_or_leans_or_is_kept_stays(self, place, tilt, moved):
        given = self.made(stages.read(room()), place, tilt)
        _, one = self.settled("Y", lambda scene: given, moved)
        assert np.allclose(one.translation, given.translation) and np.allclose(one.rotation, given.rotation)

    def test_a_thing_above_a_table_stands_on_the_table(self):
        scene = stages.read(room())
        table = self.made(scene, (1, 0.35, 1), scale=(1.0, 1.0, 0.7))
        _, cup = self.settled("Y", lambda s: self.made(s, (1.1, 0.9, 1.2), scale=(0.1, 0.1, 0.12)), others=[table])
        assert self.box(scene, cup)[:, 1].min() == pytest.approx(0.7, abs=1e-5)

    def test_what_reaches_beyond_the_floor_is_pushed_onto_it(self):
        scene = stages.read(room())
        chair = self.made(scene, (1.9, 0.4, 1))  # its right half is beyond
        edge = lambda point: 0.0 if point[0] < 2 else None  # noqa: E731
        [made] = settle(scene, [chair], [True], edge)
        assert self.box(scene, made)[:, 0].max() == pytest.approx(2, abs=0.05)
        assert flaws(scene, [chair], [True], edge) > 0.3 and flaws(scene, [made], [True], edge) == 0
        [kept] = settle(scene, [chair], [False], edge)
        assert kept is chair
        [beyond] = settle(scene, [self.made(scene, (2.2, 0.4, 1))], [True], edge)  # its middle is, too
        assert self.box(scene, beyond)[:, 0].max() == pytest.approx(2, abs=0.05)
        far = self.made(scene, (4, 0.4, 1))
        assert flaws(scene, [made, far], [True, True], edge) == pytest.approx(0.8)
        assert flaws(scene, [far], [True], lambda point: None) == 0  # nothing is known of any floor

    @pytest.mark.parametrize("up", ["Y", "Z"])
    def test_flaws_are_metres_that_things_fail_to_stand_by(self, up):
        scene, floor, walls = self.ground(up)
        chair = self.made(scene, (1, 0.4, 1))
        table = self.made(scene, (1.3, 0.3, 1), scale=(0.6, 0.6, 0.6))  # 0.2 m of it in the chair

        def of(*objects, moved=None):
            return flaws(scene, objects, moved or [True] * len(objects), floor, walls)

        assert of(chair) == pytest.approx(0, abs=1e-6)
        assert of(chair, table) == pytest.approx(0.2, abs=0.01)
        assert of(chair, table, moved=[False, False]) == 0  # as people put them
        assert of(chair, replace(table, presence=False)) == pytest.approx(0, abs=1e-6)
        assert of(self.made(scene, (1, 0.65, 1))) == pytest.approx(0.25, abs=0.01)  # floats
        assert of(self.made(scene, (1, 0.6, 1), tilt=45)) > 0.4  # leans
        assert of(self.made(scene, (1, 0.41, 1))) == 0  # a centimetre is not seen
        cup = self.made(scene, (1.5, 0.66, 1), scale=(0.1, 0.1, 0.12))
        alone = replace(table, translation=self.made(scene, (1.6, 0.3, 1)).translation)
        assert of(alone, cup) == pytest.approx(0, abs=1e-6)  # on the table

    @pytest.mark.parametrize("up", ["Y", "Z"])
    def test_what_reaches_into_a_kept_thing_is_pushed_out_of_it_with_what_it_carries(self, up):
        stage = room(None, up)
        scene = stages.read(stage)
        bed = self.made(scene, (1, 0.25, 1), scale=(1.0, 2.0, 0.5))
        stand = self.made(scene, (1.6, 0.25, 1), scale=(0.4, 0.4, 0.5))  # 0.1 m of it in the bed
        lamp = self.made(scene, (1.6, 0.66, 1), scale=(0.1, 0.1, 0.3))
        made = settle(scene, [bed, stand, lamp], [False, True, True], lambda point: 0.0)
        assert made[0] is bed
        pairs = zip(made, [bed, stand, lamp], strict=True)
        way = [self.box(scene, new).mean(0) - self.box(scene, old).mean(0) for new, old in pairs]
        right, above = (0, 1) if up == "Y" else (0, 2)
        assert way[1][right] == pytest.approx(0.1, abs=0.01) and way[2][right] == pytest.approx(0.1, abs=0.01)
        assert self.box(scene, made[2])[:, above].min() == pytest.approx(0.5, abs=1e-5)  # it stands on the nightstand

    @pytest.mark.parametrize("up", ["Y", "Z"])
    def test_what_reaches_into_a_wall_stands_before_it(self, up):
        """The wall's face is at -2.95, the chair 0.4 m deep and 0.1 m of it in the wall."""
        scene, floor, walls = self.ground(up)
        chair = self.made(scene, (2, 0.4, -2.85))
        [made] = settle(scene, [chair], [True], floor, walls)
        depth, wanted = (2, -2.95) if up == "Y" else (1, 2.95)
        found = self.box(scene, made)[:, depth]
        assert (found.min() if up == "Y" else found.max()) == pytest.approx(wanted, abs=0.01)
        assert self.box(scene, made)[:, 0].mean() == pytest.approx(2, abs=0.01)

    def test_what_is_deep_in_something_is_pushed_no_farther_than_half_a_metre(self):
        scene = stages.read(room())
        bed = self.made(scene, (1, 0.25, 1), scale=(2.0, 2.0, 0.5))
        inside = self.made(scene, (1.1, 0.25, 1), scale=(0.4, 0.4, 0.5))
        made = settle(scene, [bed, inside], [False, True], lambda point: 0.0)
        assert np.linalg.norm(made[1].translation - inside.translation) == pytest.approx(0.5, abs=0.01)

    @settings(max_examples=40, deadline=None)
    @given(
        st.lists(
            st.tuples(st.floats(-1, 1), st.floats(-1, 1), st.floats(0.05, 0.3), st.floats(0.05, 0.3), st.floats(0, 3)),
            min_size=2,
            max_size=6,
        )
    )
    def test_nobody_who_is_kept_is_pushed_and_nobody_far(self, drawn):
        boxes = [
            Standing(
                np.array([x, y]),
                np.array([[np.cos(turn), np.sin(turn)], [-np.sin(turn), np.cos(turn)]]),
                np.array([wide, deep]),
                0.0,
                1.0,
                free=number > 0,
            )
            for number, (x, y, wide, deep, turn) in enumerate(drawn)
        ]
        shift = push_apart(boxes)
        assert not shift[0].any() and np.linalg.norm(shift, axis=1).max() <= 0.5 + 1e-9
        apart = push_apart([replace(box, middle=box.middle + way) for box, way in zip(boxes, shift, strict=True)])
        if len(boxes) == 2 and np.linalg.norm(shift[1]) < 0.49:
            assert not apart.any()


class TestTries:
    """Samples here are numbers, and stand where they are 0."""

    @dataclass
    class Candidate:
        flaws: float

    def drawn(self, answers, samples, tries):
        """Which answers, of each sample and try, are taken; and what was asked for."""
        asked = []

        def draw(numbers, attempt):
            asked.append([number % 100 for number in numbers])
            assert {number // 100 for number in numbers} == {attempt}
            return [answers[number % 100][attempt] for number in numbers]

        return [each.flaws for each in draw_to_stand(draw, self.Candidate, samples, tries)], asked

    def test_what_stands_is_not_drawn_again(self):
        taken, asked = self.drawn([[0.0, 9.0], [0.5, 0.0], [0.3, 0.4]], 3, 2)
        assert taken == [0.0, 0.0, 0.3] and asked == [[0, 1, 2], [1, 2]]

    def test_one_try_takes_what_comes(self):
        assert self.drawn([[0.7], [0.1]], 2, 1) == ([0.7, 0.1], [[0, 1]])

    @settings(deadline=None)
    @given(st.lists(st.lists(st.sampled_from([0.0, 0.01, 0.4, 2.0]), min_size=3, max_size=3), min_size=1, max_size=5))
    def test_more_samples_begin_with_the_same(self, answers):
        taken = self.drawn(answers, len(answers), 3)[0]
        assert taken[:1] == self.drawn(answers, 1, 3)[0]
        assert all(one == min(tried) or one <= 0.02 for one, tried in zip(taken, answers, strict=True))
