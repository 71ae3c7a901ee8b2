"""The assistant's sentences in German: all that the guide and the report's conditions say is known."""

from __future__ import annotations

import ast
import inspect
import re
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import pytest
from PyQt6.QtCore import QTranslator
from PyQt6.QtWidgets import QApplication, QLabel
from pytestqt.qtbot import QtBot

import calibration.homography
import calibration.solve
from app.gui.common.translation import install_language
from app.gui.setup.calibration_page import CalibrationPage
from app.gui.setup.calibration_words import advice_and_state, in_words
from app.rig.calibration_session import CalibrationOutcome, GateLine
from calibration.capture_guide import _TILTS
from calibration.pose_planner import PLACES, TILTS, Reached
from calibration.solve import Solution

ENGLISH = re.compile(
    r"\b(the|known|wanted|worst|board|view|views|picture|pictures|of|at|away|still|and|held|solve|camera|both|"
    r"map|points|needs|only|homography|similarity|affine)\b",
    re.IGNORECASE,
)


@pytest.fixture
def german(qapp: QApplication) -> Iterator[None]:
    install_language(qapp, "de")
    yield
    for translator in qapp.findChildren(QTranslator):
        qapp.removeTranslator(translator)
        translator.setParent(None)


def what_the_guide_says() -> list[str]:
    texts = [
        "hold still", "moving (77.9 visible px a picture), hold still", "blurred",
        "much like a view that is kept already",
        "no board in the visible picture", "no board in the thermal picture",
        "no board in the visible and the thermal picture", "view 4 kept", "held still, 3 pictures averaged",
        "held still, 9 pictures averaged, enough of this pose", "enough views",
        "Enough: 22 views, 86% of the common field in the thermal picture covered. Solve now.",
        "That is as many as are of use: 40 views, 71% of the common field in the thermal picture covered, but "
        "2 sigma 2.4 visible px. Solve now.",
        f"10 views, 67% of the common field covered, boards are held too close, {Reached(0.252, 5.62).short_of(0.8)}. "
        "Bring the board to the right of the common field, about 0.8 m away (28% of the thermal picture's width), "
        "facing you.",
        "21 views, 67% of the common field covered: go on. Bring the board to the top of the common field in the "
        "thermal picture.",
    ]  # fmt: skip
    tilts = [str(words) for *_, words in _TILTS] + [words for words, *_ in TILTS]
    for words in (*tilts, "nearer or farther than before"):
        texts.append(f"4 of 20 views. Bring the board to the middle of the thermal picture, {words}.")
    texts += [
        f"4 of 20 views. Bring the board to the {place} of the thermal picture." for row in PLACES for place in row
    ]
    return texts


def what_the_conditions_say() -> list[str]:
    """The texts of every `Gate(name, wanted, got, passed, advice)` in the solver, numbers for what is filled in."""
    texts = []
    held_out = "transfer error on held-out views"
    for call in ast.walk(ast.parse(inspect.getsource(calibration.solve))):
        if isinstance(call, ast.Call) and isinstance(call.func, ast.Name) and call.func.id == "Gate":
            for side in ("visible", "thermal"):
                for part in (call.args[0], call.args[1], call.args[4]):
                    source = ast.unparse(part)
                    source = source.replace("{held_out}", held_out).replace("{side}", side)
                    texts.append(str(ast.literal_eval(re.sub(r"\{[^}]*\}", "80%", source).lstrip("f"))))
    return texts


def what_contradicts(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Every form of what `solve` says where both cameras do not fit together; it takes the place of a gate's advice."""
    texts = []
    camera = SimpleNamespace(camera=SimpleNamespace(width=640))
    for alone_px in (0.2, 9.0):
        for scatter_deg in ((0.1, 0.1), (0.8, 0.1)):
            found = SimpleNamespace(
                visible=SimpleNamespace(rms_px=alone_px, **vars(camera)),
                thermal=SimpleNamespace(rms_px=alone_px, **vars(camera)),
                rotation_scatter_deg=scatter_deg, together_px=(5 * alone_px, 5 * alone_px), bent_px=(9.1, 12.3),
                views=[],
            )  # fmt: skip
            texts.append(Solution.contradiction.fget(found))
    monkeypatch.setattr(calibration.solve, "_mirrored", lambda views: True)
    return [*texts, Solution.contradiction.fget(found)]


def what_picked_points_say() -> list[str]:
    """The texts of every error about points in `calibration.homography`, numbers and a map for what is filled in."""
    texts = []
    for node in ast.walk(ast.parse(inspect.getsource(calibration.homography))):
        if isinstance(node, ast.Raise) and isinstance(node.exc, ast.Call):
            source = ast.unparse(node.exc.args[0]).lstrip("f")
            source = re.sub(r"\{(kind\w*\[?0?\]?|model)\}", "affine", source)
            texts.append(str(ast.literal_eval(re.sub(r"\{[^}]*\}", "3", source))))
    return [*texts, "1 whole points; two give a first map, four or more one to rely on"]


def test_why_nothing_fits_is_told_in_german(german: None, monkeypatch: pytest.MonkeyPatch) -> None:
    texts = what_contradicts(monkeypatch)
    assert len(set(texts)) == 5 and all(texts)
    points = what_picked_points_say()
    assert len(points) >= 6
    for text in (*texts, *points, "similarity", "affine", "homography"):
        found = in_words(text)
        assert not ENGLISH.search(found), found
        assert re.findall(r"\d[\d.]*\d|\d", found) == re.findall(r"\d[\d.]*\d|\d", text)


def test_the_result_shows_the_bend_and_the_contradiction_in_german(
    german: None, qtbot: QtBot, monkeypatch: pytest.MonkeyPatch
) -> None:
    why = what_contradicts(monkeypatch)[0]
    gate = GateLine("accepted views", "at least 12", "14", True, "")
    failed = GateLine("transfer error on held-out views, median", "at most 1 thermal px", "3.20 thermal px", False, why)
    outcome = CalibrationOutcome(
        Path("rig.yaml"), Path("rig.html"), False, (gate, failed), 14, {}, 3.0, 1.0, 9.0, 8.0, 3.2, 4.1, 60.0,
        bend_mm=7.9, contradiction=why,
    )  # fmt: skip
    page = CalibrationPage()
    qtbot.addWidget(page)
    page.show_outcome(outcome)
    texts = [label.text() for label in page.findChildren(QLabel)]
    assert [text for text in texts if "verbogen" in text and "7.9 mm" in text]
    assert [text for text in texts if text == in_words(why)], "once, above the conditions"


@pytest.mark.parametrize("text", [*what_the_guide_says(), *sorted(set(what_the_conditions_say()))])
def test_nothing_stays_english(german: None, text: str) -> None:
    found = in_words(text)
    assert not ENGLISH.search(found.replace("px a ", "")), found
    assert re.findall(r"\d[\d.]*\d|\d", found) == re.findall(r"\d[\d.]*\d|\d", text.replace("95th", "95")), "numbers"


def test_english_stays_as_it_is_and_what_is_unknown_as_well(qapp: QApplication) -> None:
    assert len(what_the_conditions_say()) >= 30
    for text in (*what_the_guide_says(), "something else. And more."):
        assert in_words(text) == text


def test_what_to_do_comes_apart_from_what_is_there() -> None:
    assert advice_and_state("2 views, rotation 0.2. Bring it here.") == ("Bring it here.", "2 views, rotation 0.2.")
    assert advice_and_state("Show the board") == ("Show the board", "")
