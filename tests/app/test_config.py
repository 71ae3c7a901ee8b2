"""Configuration: shipped files load, every fault is named by file, line and key, nothing else ever escapes."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st
from typer.testing import CliRunner

from app.__main__ import build_cli
from app.configuration.config import AppConfig, EngineName, LogFormat, SelfAlign, load_config
from fusion_core.errors import ConfigError
from fusion_core.thermal.agc import AgcMode
from fusion_core.yaml_config import parse_tree, validate_tree

ROOT = Path(__file__).resolve().parents[2]
SHIPPED = [ROOT / "configs" / f"{name}.yaml" for name in ("simulated", "usb_pair", "rtsp_pair", "replay")]

MINIMAL = """\
rig: test
visible:
  uri: sim:visible
thermal:
  uri: sim:thermal
"""


def write(folder: Path, text: str, name: str = "rig.yaml") -> Path:
    path = folder / name
    path.write_text(text, encoding="utf-8")
    return path


def fault(folder: Path, text: str, overrides: tuple[str, ...] = (), env: dict[str, str] | None = None) -> str:
    path = write(folder, text)
    with pytest.raises(ConfigError) as caught:
        load_config(path, overrides, env)
    return str(caught.value).replace(str(path), "rig.yaml")


@pytest.mark.parametrize("path", SHIPPED, ids=lambda path: path.stem)
def test_shipped_configuration_loads(path: Path) -> None:
    config = load_config(path)
    assert config.rig


@pytest.mark.parametrize("path", SHIPPED, ids=lambda path: path.stem)
def test_every_setting_in_a_shipped_configuration_is_explained(path: Path) -> None:
    for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), start=1):
        key, colon, rest = line.partition(":")
        if colon and rest.strip() and not key.lstrip().startswith("#"):
            assert "  # " in rest, f"{path.name}:{number} has no comment with unit and reason"


def test_shipped_simulation_and_budget_agree() -> None:
    config = load_config(ROOT / "configs" / "simulated.yaml")
    assert config.budget.baseline_m == config.simulation.baseline_m
    assert config.budget.reference_distance_m == config.simulation.aligned_distance_m


def test_defaults_and_types(tmp_path: Path) -> None:
    config = load_config(write(tmp_path, MINIMAL))
    assert config.engine.name is EngineName.AUTO
    assert config.agc.mode is AgcMode.PLATEAU
    assert config.budget.limit_px == 8.0
    with pytest.raises(ValueError, match="frozen"):
        config.rig = "other"  # type: ignore[misc]


def test_yaml_words_and_numbers_mean_what_they_look_like(tmp_path: Path) -> None:
    text = MINIMAL + "calibration: {self_align: off}\nlogging: {format: json, repeat_interval_s: 1e1}\n"
    text += "agc: {mode: manual, manual_low: 0x10, manual_high: 20}\nrecording: {tracks: [thermal]}\n"
    config = load_config(write(tmp_path, text))
    assert config.calibration.self_align is SelfAlign.OFF
    assert config.logging.format is LogFormat.JSON
    assert config.logging.repeat_interval_s == 10.0
    assert config.agc.manual_low == 16


@pytest.mark.parametrize(
    ("lines", "expected"),
    [
        ("sync: {max_skw_ms: 3}", "rig.yaml:6: sync.max_skw_ms: unknown key; did you mean max_skew_ms?"),
        ("max_skew_ms: 3", "rig.yaml:6: max_skew_ms: unknown key; did you mean sync.max_skew_ms?"),
        ("budget:\n  limit_px: 0", "rig.yaml:7: budget.limit_px: is 0, must be greater than 0"),
        ("budget:\n  limit_px: eight", 'rig.yaml:7: budget.limit_px: is the text "eight", wanted a number'),
        ('engine: {threads: "2"}', 'rig.yaml:6: engine.threads: is the text "2", wanted a whole number'),
        ("engine: {threads: 2.5}", "rig.yaml:6: engine.threads: is 2.5, wanted a whole number"),
        ("engine: {threads: true}", "rig.yaml:6: engine.threads: is true, wanted a whole number"),
        ("engine: fast", 'rig.yaml:6: engine: is "fast", wanted a section'),
        ("engine:\n", "rig.yaml:6: engine: is empty (null), wanted a section"),
        ("engine: {name: opnvino}", "did you mean openvino?"),
        ("recording: {tracks: [fused, thermall]}", 'rig.yaml:6: recording.tracks[1]: is "thermall", must be'),
        ("recording: {tracks: fused}", "recording.tracks: is the text"),
        ("agc: {mode: manual}", "rig.yaml:6: agc: mode manual needs manual_low and manual_high"),
        ("agc: {exclude: [[0, 0, 0, 1]]}", "exclude[0]"),
        ("agc: {damping_s: .nan}", 'rig.yaml:6: agc.damping_s: is ".nan", which is no finite number'),
        ("agc: {damping_s: .inf}", "no finite number"),
        ("engine: {name: average, weights: a.safetensors}", "weights are set, but the engine average has none"),
        ("agc: {polarity: black_hot}", "engines expect white_hot"),
        ("sync: {hold_ms: !!python/name:os.system x}", "hold_ms"),
        ("rig: again", "rig.yaml:6: rig: given twice, first at rig.yaml:1; keep one"),
        ("<<: {rig: x}", "cannot be a key here"),
        ("? [a, b]\n: 3", "the key is a list"),
        ("engine: [", "rig.yaml:7: not valid YAML"),
        ("engine:\n\tname: x", "rig.yaml:7: not valid YAML (column 1): a tab, and YAML wants spaces"),
        ("engine:\tx", "rig.yaml:6: not valid YAML (column 8): a tab, and YAML wants spaces"),
        ("engine: x\0", "rig.yaml:6: not valid YAML: holds U+0000, which is no text"),
        ("\ufeffengine: {}", "engine: unknown key, with the invisible U+FEFF in it; type the line anew"),
        ('recording: {directory: ""}', 'rig.yaml:6: recording.directory: is "", wanted a path; give one, or leave the'),
        ('calibration: {file: " "}', 'rig.yaml:6: calibration.file: is " ", wanted a path; give one, or null'),
        ('detect: ""', 'rig.yaml:6: detect: is "", wanted a path'),
        ('detect: {model: ""}', 'rig.yaml:6: detect.model: is "", wanted a path; give one'),
        ('agc: {exclude_mask: "C:\\videos"}', "write / in its place, or take single quotes"),
        ("engine: {threads: 99999999999999999999999}", "no finite number"),
        ('output: {palette: "\\ud800"}', "characters that are no text"),
        ("sync: &a {x: *a}", "more than"),
        ("---\nrig: second", "rig.yaml:6: not valid YAML"),
    ],
)
def test_fault_is_named_by_line_and_key(tmp_path: Path, lines: str, expected: str) -> None:
    assert expected in fault(tmp_path, MINIMAL + lines + "\n")


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", "rig.yaml:1: rig: is missing; wanted name of this pair"),
        ("rig: a\nvisible: {}\nthermal: {uri: sim:thermal}\n", "rig.yaml:2: visible.uri: is missing"),
        ("- a\n", "rig.yaml:1: wanted `key: value` lines at the top, got a list"),
        ("just words\n", "got a single value"),
        ("[" * 5000, "more than 30 levels"),
        ("rig: 12\nvisible: {uri: sim:visible}\nthermal: {uri: sim:thermal}\n", 'wanted text; put it in quotes: "12"'),
        (MINIMAL.replace("sim:thermal", "sim:visible"), "are the two cameras swapped?"),
        (
            MINIMAL.replace("sim:", "file:a.mkv?").replace("visible\n", "loop=1\n").replace("thermal\n", "loop=1\n"),
            "same",
        ),
        (MINIMAL.replace("sim:visible", "webcam"), "rig.yaml:3: visible.uri: camera uri 'webcam' has no known kind"),
    ],
)
def test_whole_file_faults(tmp_path: Path, text: str, expected: str) -> None:
    assert expected in fault(tmp_path, text)


def test_all_faults_are_listed_at_once_in_order(tmp_path: Path) -> None:
    text = MINIMAL + "engine:\n  nme: torch\n  threads: 0\nsync:\n  max_skew_ms: x\n  max_skew_ms: 3\n"
    lines = fault(tmp_path, text).splitlines()
    assert lines[0] == "rig.yaml: 4 problems"
    assert [line.strip().split(": ")[0] for line in lines[1:]] == [f"rig.yaml:{n}" for n in (7, 8, 10, 11)]


def test_files_that_cannot_be_read(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"none\.yaml: cannot be read"):
        load_config(tmp_path / "none.yaml")
    with pytest.raises(ConfigError, match="is a folder, wanted a YAML file"):
        load_config(tmp_path)
    (tmp_path / "binary.yaml").write_bytes(b"rig: \xff\xfe\x00")
    with pytest.raises(ConfigError, match="not UTF-8"):
        load_config(tmp_path / "binary.yaml")
    (tmp_path / "large.yaml").write_bytes(b"#" * 1_000_001)
    with pytest.raises(ConfigError, match="at most 1000000"):
        load_config(tmp_path / "large.yaml")


@pytest.mark.parametrize("encoding", ["utf-16", "utf-16-le", "utf-16-be", "utf-32", "latin-1"])
def test_a_file_in_another_encoding_is_told_which_is_wanted(tmp_path: Path, encoding: str) -> None:
    (tmp_path / "rig.yaml").write_bytes((MINIMAL + "\n# Dachgerät\n").encode(encoding))
    with pytest.raises(ConfigError, match="save it anew with the encoding UTF-8"):
        load_config(tmp_path / "rig.yaml")
    (tmp_path / "rig.yaml").write_text(MINIMAL, "utf-8-sig")  # as Windows' editors write it
    assert load_config(tmp_path / "rig.yaml").rig == "test"


def test_aliases_cannot_blow_up(tmp_path: Path) -> None:
    text = "a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n"
    for level in range(1, 9):
        text += f"a{level}: &a{level} [{', '.join([f'*a{level - 1}'] * 10)}]\n"
    assert "more than" in fault(tmp_path, text)


def test_overrides_win_over_environment_and_file(tmp_path: Path) -> None:
    path = write(tmp_path, MINIMAL + "engine: {threads: 1, preset: base}\n")
    env = {"LUMITHERM__ENGINE__THREADS": "2", "LUMITHERM__AGC__ROI": "[0, 0, 0.5, 1]", "LUMITHERM_TRACEBACK": "1"}
    config = load_config(path, ["engine.threads=3", "budget.baseline_m=0.1", "agc.exclude_mask=null"], env)
    assert (config.engine.threads, config.engine.preset) == (3, "base")
    assert config.agc.roi == (0.0, 0.0, 0.5, 1.0)
    assert config.budget.baseline_m == 0.1
    assert load_config(path, (), env).engine.threads == 2
    assert load_config(path).engine.threads == 1


def test_faulty_overrides_name_their_origin(tmp_path: Path) -> None:
    message = fault(tmp_path, MINIMAL, ("engine.threads=zero", "engine.presett=x", "rig.name=x"))
    assert '--set: engine.threads: is the text "zero", wanted a whole number' in message
    assert "--set: engine.presett: unknown key; did you mean preset?" in message
    assert "--set: rig.name: rig is a single value" in message
    message = fault(tmp_path, MINIMAL, env={"LUMITHERM__SYNC__HOLD_MS": "-1"})
    assert "environment LUMITHERM__SYNC__HOLD_MS: sync.hold_ms: is -1, must be at least 0" in message
    assert "wanted key.path=value" in fault(tmp_path, MINIMAL, ("engine.threads",))
    assert "not valid YAML" in fault(tmp_path, MINIMAL, ("engine.threads=[",))


def test_an_override_repairs_a_fault_of_the_file(tmp_path: Path) -> None:
    path = write(tmp_path, MINIMAL + "engine: {threads: 0}\n")
    assert load_config(path, ["engine.threads=4"]).engine.threads == 4


def test_passwords_never_reach_a_message(tmp_path: Path) -> None:
    text = MINIMAL.replace("sim:visible", "rtsp://me:secret@cam/1?transport=pigeon")
    assert "secret" not in fault(tmp_path, text)
    text = MINIMAL.replace("sim:visible", "{a: 'rtsp://me:secret@cam/1'}")
    assert "secret" not in fault(tmp_path, text)


# ------------------------------------------------------------------------------------------------ fuzz

scalars = st.one_of(
    st.none(), st.booleans(), st.integers(), st.floats(), st.text(max_size=20), st.sampled_from(["auto", "sim:visible"])
)
keys = st.one_of(
    st.sampled_from(sorted(AppConfig.model_fields)),
    st.sampled_from(["uri", "mode", "name", "tracks", "roi", "exclude", "reopen", "controls"]),
    st.text(max_size=8),
)
trees = st.recursive(
    scalars, lambda inner: st.one_of(st.lists(inner, max_size=4), st.dictionaries(keys, inner, max_size=5))
)


def outcome(text: str) -> str:
    """ "sound", or the message of a ConfigError; anything else is a bug and escapes."""
    try:
        validate_tree(AppConfig, parse_tree(text, "fuzz.yaml"))
    except ConfigError as error:
        assert str(error)
        return str(error)
    return "sound"


@settings(max_examples=100, deadline=None)
@given(tree=st.dictionaries(keys, trees, max_size=6))
def test_fuzzed_structures_end_in_a_config_error(tree: dict) -> None:
    text = yaml.safe_dump(tree, allow_unicode=True)
    assert "fuzz.yaml" in outcome(text)


@settings(max_examples=100, deadline=None)
@given(text=st.text(alphabet=st.sampled_from("abrig:visible\n  -[]{}&*!|>'\"%@`#,?0.~<\t"), max_size=60))
def test_fuzzed_text_ends_in_a_config_error(text: str) -> None:
    assert "fuzz.yaml" in outcome(text)


@settings(max_examples=60, deadline=None)
@given(position=st.integers(0, 10_000), replacement=st.text(max_size=3), source=st.sampled_from(SHIPPED))
def test_a_damaged_shipped_file_never_crashes(position: int, replacement: str, source: Path) -> None:
    text = source.read_text(encoding="utf-8")
    position %= len(text)
    result = outcome(text[:position] + replacement + text[position + 1 :])
    assert result == "sound" or "fuzz.yaml" in result


# ------------------------------------------------------------------------------------------------ commands


def test_config_check_says_sound_or_exits_2(tmp_path: Path) -> None:
    cli, runner = build_cli(), CliRunner()
    good = runner.invoke(cli, ["config", "check", *map(str, SHIPPED)])
    assert good.exit_code == 0, good.output
    assert good.output.count("sound") == 4
    bad = runner.invoke(cli, ["config", "check", str(write(tmp_path, MINIMAL + "engin: {}\n")), str(SHIPPED[0])])
    assert bad.exit_code == 2
    assert "did you mean engine?" in bad.output
    assert "sound" in bad.output


def test_config_show_effective_is_a_configuration_itself(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LUMITHERM__BUDGET__LIMIT_PX", "6")
    cli, runner = build_cli(), CliRunner()
    shown = runner.invoke(cli, ["config", "show", "--effective", "--set", "engine.threads=3", str(SHIPPED[1])])
    assert shown.exit_code == 0, shown.output
    assert "threads: 3  # --set" in shown.output
    assert "limit_px: 6.0  # environment LUMITHERM__BUDGET__LIMIT_PX" in shown.output
    again = load_config(write(tmp_path, shown.output))
    assert again == load_config(SHIPPED[1], ["engine.threads=3"], {"LUMITHERM__BUDGET__LIMIT_PX": "6"})
    short = runner.invoke(cli, ["config", "show", str(SHIPPED[0])])
    assert len(short.output) < len(shown.output)


def test_config_schema_is_json_with_every_section() -> None:
    schema = json.loads(CliRunner().invoke(build_cli(), ["config", "schema"]).output)
    assert set(AppConfig.model_fields) <= set(schema["properties"])
    assert schema["additionalProperties"] is False
