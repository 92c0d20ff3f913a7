"""What every command keeps: help, exit status, one line for a mistake."""

import subprocess
import sys

import pytest

from condconv_mlx import _backend, cli


def one_line(capsys) -> str:
    captured = capsys.readouterr()
    assert captured.out == ""
    (line,) = captured.err.splitlines()
    assert line.startswith("condconv-mlx: ")
    return line


def test_help_names_every_command(capsys):
    assert cli.main(["--help"]) == 0
    shown = capsys.readouterr().out
    assert all(command in shown for command in cli.COMMANDS)


@pytest.mark.parametrize("command", cli.COMMANDS)
def test_help_of_each_command_has_an_example(command, capsys):
    assert cli.main([command, "--help"]) == 0
    shown = capsys.readouterr().out
    assert f"\n  condconv-mlx {command}" in shown.partition("examples:")[2]


def test_version(capsys):
    assert cli.main(["--version"]) == 0
    assert capsys.readouterr().out.startswith("condconv-mlx 0.")


@pytest.mark.parametrize(
    ("arguments", "wanted"),
    [
        ([], "COMMAND"),
        (["fly"], "fly"),
        (["predict"], "IMAGE"),
        (["predict", "cat.jpg", "--top", "0"], "number above 0"),
        (["app", "--port", "99999"], "1 to 65535"),
        (["app", "--port", "web"], "1 to 65535"),
        (["doctor", "--fast"], "--fast"),
    ],
)
def test_a_wrong_argument_gives_one_line_and_status_2(arguments, wanted, capsys):
    assert cli.main(arguments) == 2
    line = one_line(capsys)
    assert wanted in line
    assert "--help" in line


def test_a_mistake_gives_one_line_and_status_1(tmp_path, capsys):
    assert cli.main(["predict", "cat.jpg", "--model", str(tmp_path / "none.safetensors")]) == 1
    assert "none.safetensors" in one_line(capsys)


def raising(error):
    def run(*_):
        raise error

    return run


@pytest.mark.parametrize(
    ("error", "shown"),
    [
        (ValueError("two\n lines"), "condconv-mlx: two lines\n"),
        (PermissionError(13, "Permission denied", "/x"), "condconv-mlx: /x: Permission denied\n"),
        (OSError("port 1 is taken"), "condconv-mlx: port 1 is taken\n"),
    ],
)
def test_errors_of_users_are_one_line(error, shown, monkeypatch, capsys):
    monkeypatch.setattr("condconv_mlx.cli.models.run", raising(error))
    assert cli.main(["models"]) == 1
    assert capsys.readouterr().err == shown


def test_a_bug_keeps_its_traceback(monkeypatch):
    monkeypatch.setattr("condconv_mlx.cli.models.run", raising(KeyError("oops")))
    with pytest.raises(KeyError):
        cli.main(["models"])


def test_ctrl_c_ends_quietly(monkeypatch, capsys):
    monkeypatch.setattr("condconv_mlx.cli.models.run", raising(KeyboardInterrupt))
    assert cli.main(["models"]) == 130
    assert capsys.readouterr().err == ""


def test_help_imports_neither_mlx_nor_streamlit():
    code = (
        "import sys; from condconv_mlx import cli; cli.main(['--help']);"
        "assert not {'mlx.core', 'numpy', 'streamlit', 'PIL'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True, capture_output=True)


def test_a_reader_that_has_enough_is_no_error():
    command = f"{sys.executable} -c 'from condconv_mlx import cli; raise SystemExit(cli.main())' models | true"
    ended = subprocess.run(command, shell=True, capture_output=True, text=True, check=False)
    assert ended.stderr == ""


def test_mlx_is_ended_before_python(monkeypatch, capsys):
    import mlx.core as mx

    registered, ended = [], []
    monkeypatch.setattr(cli.atexit, "register", registered.append)
    monkeypatch.setattr(mx, "clear_streams", lambda: ended.append(True))
    assert cli.main(["models"]) == 0
    at_exit = registered[0]
    at_exit()
    assert ended == [True]
    # Nothing to end where there is no MLX.
    without_mlx(monkeypatch)
    at_exit()
    assert ended == [True]


def without_mlx(monkeypatch):
    # None in sys.modules makes an import fail.
    monkeypatch.setitem(sys.modules, "mlx.core", None)


def test_linux_without_a_backend_is_told_the_extra(monkeypatch, capsys):
    without_mlx(monkeypatch)
    monkeypatch.setattr(sys, "platform", "linux")
    assert cli.main(["models"]) == 1
    line = one_line(capsys)
    assert "[cpu]" in line
    assert "[cuda13]" in line


def test_rosetta_is_named_where_mlx_is_missing(monkeypatch):
    without_mlx(monkeypatch)
    monkeypatch.setattr(_backend, "runs_under_rosetta", lambda: True)
    with pytest.raises(_backend.BackendError, match="Rosetta"):
        _backend.check()
