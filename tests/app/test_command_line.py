"""The whole command line: one table of names, units and rules; light help; what every command has."""

from __future__ import annotations

import contextlib
import io
import json
import os
import re
import shlex
import shutil
import signal
import subprocess
import sys
from collections import defaultdict
from collections.abc import Iterator
from functools import partial
from importlib.metadata import version
from pathlib import Path
from typing import Any, get_args

import numpy as np
import pytest
import typer
from typer.testing import CliRunner

from app.__main__ import COMMANDS, build_cli
from app.commands.common.answers import ANSWERS, EVERYWHERE
from app.commands.common.examples import EXAMPLES
from app.commands.common.options import FORMER, SHARED, TO_STDOUT, UNITS, WITHOUT_UNIT, AgcName, ViewName
from app.commands.common.output import say, speaking, tell
from app.commands.desktop import man_pages
from app.configuration.config import load_config
from app.configuration.examples import EXAMPLES as CONFIGURATIONS
from app.configuration.examples import example
from app.recording.config import TrackName
from app.view.views import FileView
from fusion_core.errors import LumithermError, RunError, UsageError
from fusion_core.thermal.agc import AgcMode
from fusion_core.training.config import load_training_config

ROOT = Path(__file__).resolve().parents[2]
HEAVY = {"av", "cv2", "numpy", "scipy", "torch", "openvino", "matplotlib", "jinja2", "structlog", "yaml", "msgspec",
         "rich", "PyQt6", "starlette", "prometheus_client"}  # fmt: skip


def tree() -> Any:
    return typer.main.get_command(build_cli())


def leaves() -> dict[str, Any]:
    """Every command that does something, by the words after `lumitherm`."""
    root = tree()
    found: dict[str, Any] = {}

    def walk(command: Any, path: str) -> None:
        below = getattr(command, "commands", {})
        if not below or getattr(command, "invoke_without_command", False):
            found[path] = command
        for name, each in below.items():
            if not each.hidden:
                walk(each, f"{path} {name}")

    for name, (_, line) in COMMANDS.items():
        if line:
            walk(root.load(name), name)
    return found


LEAVES = leaves()


def options(command: Any) -> Iterator[Any]:
    return (each for each in command.params if each.param_type_name == "option")


def long_name(option: Any) -> str:
    return max(option.opts, key=len)


def run(*words: object) -> Any:
    return CliRunner().invoke(build_cli(), [str(word) for word in words])


def test_every_command_is_listed_under_its_module() -> None:
    root = tree()
    assert list(COMMANDS) == sorted(COMMANDS)
    for name, (_, line) in COMMANDS.items():
        assert root.load(name).name == name and len(line) <= 64


def test_names_that_several_commands_have_are_in_the_table_and_take_one_kind_of_value() -> None:
    uses: dict[str, dict[str, Any]] = defaultdict(dict)
    for path, command in LEAVES.items():
        for option in options(command):
            uses[long_name(option)][path] = option.type_descriptor.annotation
    common = {name for name, where in uses.items() if len({path.split()[0] for path in where}) >= 4}
    assert common <= set(SHARED) | {"--view"}, "names that many commands share belong into SHARED"
    for name in SHARED:
        assert name in uses, f"{name} is in SHARED and no command has it"
        kinds = {re.sub(r" \| None|list\[|\]|<class '|'>", "", str(each)) for each in uses[name].values()}
        assert len(kinds) == 1 or name in ("--weights", "--preset", "--engine"), f"{name}: {uses[name]}"


@pytest.mark.parametrize("path", LEAVES)
def test_numbers_carry_their_unit(path: str) -> None:
    for option in options(LEAVES[path]):
        if "float" in str(option.type_descriptor.annotation):
            name = long_name(option)
            assert name.endswith(UNITS) or name in WITHOUT_UNIT, f"{path} {name} has no unit"


@pytest.mark.parametrize("path", LEAVES)
def test_an_empty_path_is_refused_where_one_is_given(path: str) -> None:
    own = [each for each in LEAVES[path].params if each.name not in ("as_json", "quiet", "verbose")]
    for option in own:
        if "Path" in str(option.type_descriptor.annotation):
            with pytest.raises(UsageError, match="is empty, wanted a path"):
                option.process_value(typer.Context(LEAVES[path]), [""] if option.nargs < 0 or option.multiple else "")


@pytest.mark.parametrize("path", LEAVES)
def test_every_command_has_json_quiet_verbose_help_and_examples_that_parse(path: str) -> None:
    command = LEAVES[path]
    names = {name for option in options(command) for name in option.opts}
    assert {"--json", "-q", "--quiet", "-v", "--verbose"} <= names
    assert not names & set(FORMER) - {"--json"} or path == "service install", "a former name came back"
    if path != "dataset build":  # a training set is made once; a folder that holds anything is refused
        assert ("--output" in names) <= ("--overwrite" in names), f"{path} writes, and knows no --overwrite"
    assert EXAMPLES[path]
    for line in EXAMPLES[path]:
        words = shlex.split(line.split(" > ")[0], comments=True)
        assert line.startswith(path)
        with command.make_context(path, [], resilient_parsing=True) as context:
            context.resilient_parsing = False  # from here on, what is wrong is to be told
            _, rest, _ = command.make_parser(context).parse_args(words[len(path.split()) :])
        assert not rest, f"{line}: {rest} is not understood"


def test_examples_are_of_commands_that_are_there() -> None:
    assert set(EXAMPLES) == set(LEAVES)


@pytest.mark.parametrize(
    "line",
    ["--help", "fuse --help", "run --help", "calibrate solve --help", "recording export --help", "models --help",
     "--version"],
)  # fmt: skip
def test_help_imports_little(line: str) -> None:
    """Counts modules, since seconds depend on the machine."""
    words = line.split()
    code = (
        f"import sys, runpy\nsys.argv = ['lumitherm', *{words!r}]\n"
        "try:\n    runpy.run_module('app', run_name='__main__')\n"
        "except SystemExit:\n    print('MODULES', len(sys.modules), *sorted({m.split('.')[0] for m in sys.modules}))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT, timeout=120)
    _, count, *names = done.stdout.strip().splitlines()[-1].split()
    assert not set(names) & HEAVY, done.stderr
    assert int(count) <= (260 if words[0].startswith("--") and words[0] != "--version" else 420)


def test_every_help_is_printed() -> None:
    for path in LEAVES:
        shown = run(*path.split(), "--help")
        assert shown.exit_code == 0 and "Usage: " in shown.output and "Examples:" in shown.output, path


def test_the_version_is_that_of_the_package() -> None:
    assert run("--version").output == f"lumitherm {version('lumitherm')}\n"


def test_choices_are_those_of_the_enumerations() -> None:
    assert set(get_args(ViewName)) == {view.value for view in FileView}
    assert set(get_args(AgcName)) == {mode.value for mode in AgcMode}


@pytest.mark.parametrize(
    "words",
    [
        ("config", "init", "-o"),
        ("calibrate", "board", "-o"),
        ("calibrate", "solve", "views", "-o"),
        ("calibrate", "refine", "views", "-o"),
        ("calibrate", "points", "a.png", "b.png", "-o"),
        ("models", "card", "run", "-o"),
        ("models", "export", "tiny", "-o"),
        ("recording", "export", "a.mkv", "-o"),
        ("train", "registration", "pairs", "-o"),
        ("demo", "-o"),
        ("calibrate", "capture", "--simulated", "-o"),
        ("models", "compare", "tiny", "small", "--pairs", "pairs", "-o"),
    ],
)
def test_nothing_is_replaced_without_overwrite(words: tuple[str, ...], tmp_path: Path) -> None:
    there = tmp_path / "there.yaml"
    if words[0] == "demo" or "capture" in words or "compare" in words:
        there = tmp_path / "folder"
        there.mkdir()
    kept = there / "precious" if there.is_dir() else there
    kept.write_text("precious")
    refused = run(*words, there)
    assert isinstance(refused.exception, UsageError) and "--overwrite" in str(refused.exception), refused.output
    assert kept.read_text() == "precious"


@pytest.mark.parametrize("path", LEAVES)
def test_dash_is_standard_output_where_one_file_is_written_and_refused_elsewhere(path: str) -> None:
    """Called with nothing but `-`, so that no command begins its work."""
    command = LEAVES[path]
    assert path not in TO_STDOUT or "--output" in {long_name(each) for each in options(command)}
    for option in options(command):
        if "Path" not in str(option.type_descriptor.annotation):
            continue
        name = long_name(option)
        with command.make_context(f"lumitherm {path}", [], resilient_parsing=True) as context:
            context.params = dict.fromkeys(("as_json", "quiet", "verbose"), False) | {option.name: Path("-")}
            began: list[Path] = []

            def run(context: Any, name: str = option.name, began: list[Path] = began) -> None:
                began.append(context.params[name])
                raise typer.Exit(7)  # nothing is printed of what failed

            if name == "--output" and path in TO_STDOUT:
                assert re.search(r"(?<!\w)-(?!\w)", option.help), f"{path}: the help does not say that - is taken"
                with pytest.raises(typer.Exit):
                    command.speak(context, run)
                assert began[0] == Path("-") if not TO_STDOUT[path] else began[0].suffix == TO_STDOUT[path]
                assert not began[0].parent.exists() or not TO_STDOUT[path]
            else:
                with pytest.raises(UsageError, match="standard output"):
                    command.speak(context, run)
                assert not began


def test_a_file_on_standard_output_is_the_file_and_the_words_go_elsewhere(tmp_path: Path) -> None:
    said = {}
    for word in ("-", tmp_path / "board.pdf"):
        said[word] = CliRunner().invoke(build_cli(), ["calibrate", "board", "-o", str(word)])
        assert said[word].exit_code == 0, said[word].output
    written = (tmp_path / "board.pdf").read_bytes()
    assert said["-"].stdout_bytes == written and written.startswith(b"%PDF")
    assert said["-"].stderr.startswith("standard output: ")
    told = CliRunner().invoke(build_cli(), ["calibrate", "board", "-o", "-", "--json"])
    assert told.stdout_bytes == written and json.loads(told.stderr)["exit_code"] == 0
    failed = CliRunner().invoke(build_cli(), ["calibrate", "board", "-o", "-", "-b", "nonsense"])
    assert failed.exit_code != 0 and not failed.stdout_bytes


def test_every_command_explains_its_json_and_tells_nothing_else() -> None:
    assert set(ANSWERS) == set(LEAVES)
    source = "".join(path.read_text() for path in (ROOT / "app" / "commands").rglob("*.py") if path.stem != "answers")
    for path, fields in ANSWERS.items():
        assert fields or path == "gui", f"{path} tells nothing"
        assert not set(fields) & set(EVERYWHERE)
        for name, text in fields.items():
            assert text and (name == "*" or re.fullmatch(r"[a-z0-9_]+", name)), f"{path}: {name}"
            told = name == "*" or path == "models show" or re.search(rf'\b{name}=|"{name}":', source)
            assert told, f"{path}: nothing tells {name}"
    with speaking(True, False, False, "config init"), pytest.raises(AssertionError, match="ANSWERS"):
        tell(nonsense=1)


@pytest.mark.parametrize("path", LEAVES)
def test_json_ends_every_command_in_one_object_and_quiet_in_none(path: str) -> None:
    """Whatever the command does, its end is said in one place; here it fails, as each can."""
    command = LEAVES[path]
    for word, quiet in (("as_json", False), ("quiet", True)):
        with command.make_context(f"lumitherm {path}", [], resilient_parsing=True) as context:
            context.params = dict.fromkeys(("as_json", "quiet", "verbose"), False) | {word: True}

            def fail(_context: Any) -> None:
                say("on the way")
                raise RunError("it broke")

            with io.StringIO() as out, contextlib.redirect_stdout(out), pytest.raises(RunError):
                try:
                    command.speak(context, fail)
                finally:
                    said = out.getvalue()
            if quiet:
                assert said == ""
                continue
            document = json.loads(said)
            assert document["command"] == path and document["exit_code"] == 1
            assert document["error"] == "it broke" and document["lines"] == ["on the way"]


def test_every_number_with_a_fraction_has_to_be_finite() -> None:
    seen = 0
    for path, command in leaves().items():
        for option in command.params:
            if "float" not in str(option.type_descriptor.annotation):
                continue
            context = typer.Context(command, info_name=path)
            context.params = {each.name: None for each in command.params} | {option.name: float("-inf")}
            wanted = f"{max(option.opts, key=len)} is -inf, wanted a finite number"
            with pytest.raises(UsageError, match=wanted):
                command.speak(context, lambda _: None)
            seen += 1
    assert seen > 20


@pytest.mark.parametrize("value", ["nan", "inf", "-inf"])
def test_what_is_no_number_is_told_so_whatever_its_range(value: str) -> None:
    for name in ("--thermal-offset-ms", "--strength"):  # without ends, with both
        refused = run("fuse", "a.mkv", "b.mkv", "-o", "c.mkv", name, value)
        assert isinstance(refused.exception, UsageError), refused.output
        assert str(refused.exception) == f"{name} is {value}, wanted a finite number"
    assert "less than or equal to 1.5" in run("fuse", "a.mkv", "b.mkv", "-o", "c.mkv", "--strength", "7").output


@pytest.mark.parametrize(
    "words",
    [
        "recording info {}", "recording check {}", "recording recover {}", "recording export {} -o out.mkv",
        "dataset build {} -o out", "config check {}", "run -c {}", "models add {}", "models export {} -o out.onnx",
        "calibrate check {} {}",
    ],
)  # fmt: skip
def test_a_folder_in_place_of_a_file_is_called_a_folder(
    words: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    folder = tmp_path / "records"
    folder.mkdir()
    refused = run(*words.format(folder, folder).split())
    said = f"{refused.output}{refused.exception}"
    assert "is a folder, wanted" in said and "in a plain file; give" in said, said
    assert "exist" not in said


@pytest.mark.parametrize("words", ["config init", "calibrate board", "models export tiny"])
def test_a_folder_in_place_of_a_file_to_write_is_called_a_folder(
    words: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    for folder in (".", "/"):
        refused = run(*words.split(), "-o", folder, "--overwrite")
        said = f"{refused.output}{refused.exception}"
        assert isinstance(refused.exception, LumithermError), said


@pytest.mark.parametrize(
    "words", ["models export tiny -o {}.onnx", "evaluate --pairs {} --csv {}.csv", "evaluate --report {}.json",
              "benchmark --plot {}.png", "train doctor . --html {}.html", "calibrate board -o {}.svg", "demo -o {}"],
)  # fmt: skip
def test_what_could_not_be_written_at_the_end_is_found_at_the_beginning(words: str, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    refused = run(*words.replace("{}", str(tmp_path / "file" / "result")).split())
    assert isinstance(refused.exception, RunError), refused.output
    assert f"{tmp_path / 'file'} is a file, wanted a folder" in str(refused.exception)


@pytest.mark.skipif(os.geteuid() == 0 and not shutil.which("setpriv"), reason="root may write everywhere")
def test_a_folder_of_somebody_else_is_told_without_a_traceback(tmp_path: Path) -> None:
    tmp_path.chmod(0o555)
    words = [sys.executable, "-m", "app", "models", "export", "tiny", "-o", str(tmp_path / "tiny.onnx")]
    if os.geteuid() == 0:
        words = ["setpriv", "--bounding-set=-dac_override", "--inh-caps=-dac_override", *words]
    done = subprocess.run(words, cwd=ROOT, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 1 and f"{tmp_path} is not yours to write in" in done.stderr, done.stderr


def test_what_the_system_refuses_is_told_in_one_line(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    def refuse(_: str) -> Path:
        raise PermissionError(13, "Permission denied", "simulated.yaml")

    monkeypatch.setattr("app.configuration.examples.example", refuse)
    refused = run("config", "init", "-o", tmp_path / "rig.yaml")
    assert isinstance(refused.exception, RunError) and "simulated.yaml: Permission denied" in str(refused.exception)


def test_json_is_json_whatever_is_told(capsys: pytest.CaptureFixture[str]) -> None:
    with speaking(True, False, False, "run") as said:
        tell(frames={TrackName.FUSED: np.int64(3)}, drops=(Path("a"), float("nan")), latency_p50_ms=np.float32(1.5))
        said.end(0)
    document = json.loads(capsys.readouterr().out, parse_constant=pytest.fail)
    assert document == {"command": "run", "exit_code": 0, "frames": {"fused": 3}, "drops": ["a", None],
                        "latency_p50_ms": 1.5}  # fmt: skip


def test_former_names_still_work(tmp_path: Path) -> None:
    there = tmp_path / "board.pdf"
    there.write_text("")
    assert run("calibrate", "board", "-o", there, "-f").exit_code == 0 and there.stat().st_size
    assert run("recording", "recover", tmp_path / "no.mkv").exit_code == run("recover", tmp_path / "no.mkv").exit_code
    shown = run("benchmark", "--json", tmp_path / "x.json", "--seconds", "0.2", "--list")
    assert shown.exit_code == 0 and "pyramid" in shown.output
    assert not run("play", "--help").exit_code and "  play " not in run("--help").output


def test_json_is_one_object_quiet_is_silent(tmp_path: Path) -> None:
    file = tmp_path / "rig.yaml"
    said = json.loads(run("config", "init", "-o", file, "--json").output)
    assert said["exit_code"] == 0 and said["output"] == str(file) and said["command"] == "config init"
    assert run("config", "check", file, "-q").output == ""
    (tmp_path / "bad.yaml").write_text("visible: {uri: 3}\n")
    failed = CliRunner().invoke(build_cli(), ["config", "check", str(tmp_path / "bad.yaml"), "--json"])
    said = json.loads(failed.stdout)
    assert failed.exit_code == 2 == said["exit_code"] and "bad.yaml" in next(iter(said["faults"].values()))
    failed = CliRunner().invoke(build_cli(), ["recording", "info", str(tmp_path / "none.mkv"), "--json"])
    assert "none.mkv" in json.loads(failed.stdout)["error"]


@pytest.mark.parametrize("library", ["typer", "yaml"])  # before the command line is there, and within a command
def test_ctrl_c_says_so_at_any_time(library: str, tmp_path: Path) -> None:
    stand_in = tmp_path / f"{library}.py"
    stand_in.write_text("import time\nprint(flush=True)\ntime.sleep(60)\n")
    with subprocess.Popen(
        [sys.executable, "-c", "from app.__main__ import main; main()", "config", "check", stand_in], cwd=ROOT,
        env=os.environ | {"PYTHONPATH": str(tmp_path)}, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        preexec_fn=partial(signal.signal, signal.SIGINT, signal.SIG_DFL),  # a shell's background ignores it
    ) as process:  # fmt: skip
        assert process.stdout is not None and process.stdout.readline() == "\n"
        process.send_signal(signal.SIGINT)
        assert (process.wait(50), process.communicate()[1]) == (130, "lumitherm: interrupted\n")


@pytest.mark.parametrize(("word", "level"), [("-q", "ERROR"), ("-v", "DEBUG")])
def test_quiet_and_verbose_reach_the_log_of_a_live_run(word: str, level: str, tmp_path: Path) -> None:
    tiny = [f"simulation.{name}={size}" for name, size in (("width", 96), ("height", 64), ("thermal_width", 96),
                                                            ("thermal_height", 64))]  # fmt: skip
    words = ["run", "--simulated", "--headless", "--duration-s", "0.3", word, "--set", "engine.name=average"]
    code = (
        "import logging, sys\nfrom app.__main__ import main\n"
        "try:\n    main()\nfinally:\n    print('LEVEL', logging.getLevelName(logging.getLogger().level))"
    )
    command = [sys.executable, "-c", code, *words, *(part for each in tiny for part in ("--set", each))]
    done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, timeout=120, check=False)
    assert done.returncode == 0, done.stderr
    assert f"LEVEL {level}" in done.stdout and (word == "-v" or done.stdout.count("\n") == 1), done.stdout


TEXTS = [path for folder in ("app", "fusion_core", "calibration", "configs", "deploy", "docs", "scripts", "benchmarks")
         for path in (ROOT / folder).rglob("*") if path.suffix in (".py", ".yaml", ".yml", ".md", ".html", ".js", ".ts")
         or path.name.startswith("Dockerfile")] + [ROOT / "README.md", ROOT / "CONTRIBUTING.md"]  # fmt: skip


def test_every_text_names_commands_and_options_as_they_are_now() -> None:
    """In errors, advice, comments and the manual: no command that is hidden or gone, no option of before."""
    root, wrong, seen = tree(), [], 0
    for path in TEXTS:
        for words in re.findall(r"\blumitherm ([a-z][^`\"'\n;<]*)", path.read_text(encoding="utf-8")):
            name, *rest = words.split()
            if name not in COMMANDS:
                continue  # a sentence about it
            seen += 1
            told = [] if COMMANDS[name][1] else [name]
            command = root.load(name)
            below = getattr(command, "commands", {})
            if below and rest and re.fullmatch(r"[a-z]+", rest[0]):
                if rest[0] in below:
                    command = below[rest[0]]
                elif not getattr(command, "invoke_without_command", False):
                    told.append(rest[0])
            known = {option for each in options(command) for option in (*each.opts, *each.secondary_opts, "--help")}
            if not getattr(command, "commands", {}):
                told += [word for word in re.findall(r"(?<![^ ])--[a-z][a-z-]*", " ".join(rest)) if word not in known]
            wrong += [f"{path.relative_to(ROOT)}: lumitherm {words}: {each}" for each in told]
    assert seen > 150 and not wrong, "\n".join(wrong)


@pytest.mark.parametrize("name", CONFIGURATIONS)
def test_every_example_configuration_can_be_used(name: str) -> None:
    if name.startswith("train"):
        load_training_config(example(name), [])
    else:
        assert load_config(example(name), (), {}).rig


def test_an_example_that_is_missing_is_named() -> None:
    with pytest.raises(RunError, match="nothing"):
        example("nothing")


@pytest.mark.parametrize("kind", ["simulated", "usb", "rtsp", "replay", "train"])
def test_init_writes_the_example(kind: str, tmp_path: Path) -> None:
    file = tmp_path / "new.yaml"
    assert run("config", "init", f"--{kind}", "-o", file).exit_code == 0
    assert run("config", "init", f"--{kind}", "-o", "-").output == file.read_text() and "# " in file.read_text()


def test_run_wants_a_configuration_or_simulated() -> None:
    assert "config init" in str(run("run", "--headless").exception)
    assert "config init" in str(run("run", "--headless", "--simulated", "-c", "x.yaml").exception)


def test_manual_pages_are_made_of_the_command_line() -> None:
    pages = man_pages(tree())
    assert {"lumitherm", *(f"lumitherm-{path.replace(' ', '-')}" for path in LEAVES)} <= set(pages)
    assert "\\-\\-overwrite" in pages["lumitherm-fuse"] and "day.jpg" in pages["lumitherm-fuse"]


@pytest.mark.skipif(shutil.which("groff") is None, reason="no groff; Debian: apt-get install groff")
def test_groff_has_nothing_to_say_of_the_manual_pages() -> None:
    text = "\n".join(man_pages(tree()).values())
    done = subprocess.run(["groff", "-man", "-Tutf8", "-ww", "-z"], input=text, capture_output=True, text=True)
    assert done.returncode == 0 and not done.stderr


def test_the_desktop_gets_entry_icon_and_pages(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path))
    assert run("desktop", "install").exit_code == 0
    entry = tmp_path / "applications" / "lumitherm.desktop"
    assert f'Exec="{sys.executable}" -P -m app gui %F' in entry.read_text()
    if shutil.which("desktop-file-validate"):
        done = subprocess.run(["desktop-file-validate", str(entry)], capture_output=True, text=True)
        assert done.returncode == 0, done.stdout
    assert (tmp_path / "icons/hicolor/scalable/apps/lumitherm.svg").read_text().startswith("<svg")
    assert (tmp_path / "man/man1/lumitherm-fuse.1").is_file()
    assert run("desktop", "uninstall").exit_code == 0
    assert not [path for path in tmp_path.rglob("*") if path.is_file()]


def test_children_take_nothing_from_the_working_folder() -> None:
    """`-P`: a folder `app/` where the user stands must not be imported in place of ours."""
    for folder in ("app", "fusion_core", "calibration"):
        for path in (ROOT / folder).rglob("*.py"):
            text = path.read_text()
            for start in re.findall(r'sys\.executable,\s*"(-.)"', text):
                assert start == "-P", path
