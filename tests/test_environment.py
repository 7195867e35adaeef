import json
import os
import re
import subprocess
import sys
import types

import pytest

from kpedge.cli.main import main
from kpedge.core import environment
from kpedge.core.errors import OutputError, UsageError
from kpedge.core.extras import pip_line
from kpedge.core.machine import ONNXRUNTIME, OPENCV
from kpedge.core.model_zoo import sample_photo
from kpedge.runtime import sessions
from kpedge.runtime.sessions import CPU, TINY_MODEL, new_session, provider_problem, providers_named
from kpedge.runtime.sinks import display

CUDA = "CUDAExecutionProvider"


@pytest.fixture
def packages(monkeypatch):
    """Pretend that these distributions are installed, and nothing else that kpedge looks for."""

    def install(**versions):
        named = {name.replace("_", "-"): version for name, version in versions.items()}
        monkeypatch.setattr(environment, "version_of", named.get)

    return install


def test_env_reports_what_is_installed(capsys):
    assert main(["env"]) == 0
    text = capsys.readouterr().out
    assert re.search(r"onnxruntime\s+\d", text)
    assert re.search(r"provider cpu\s+works", text)
    assert main(["doctor", "--json"]) == 0
    document = json.loads(capsys.readouterr().out)
    assert "cpu" in document["providers"]
    assert "azure" not in document["providers"]


def test_env_names_problems_with_their_fixes(packages, capsys, monkeypatch):
    packages(opencv_python="5.0", opencv_python_headless="5.0", torch="2.7.0+cpu", torchvision="0.22.0")
    monkeypatch.setattr(environment, "installed", lambda module: module != "onnxscript")
    assert main(["env", "--json"]) == 1
    document = json.loads(capsys.readouterr().out)
    fixes = {problem["what"]: problem["fix"] for problem in document["problems"]}
    assert any("overwrite each other's files" in what and "pip uninstall" in fix for what, fix in fixes.items())
    assert any("different package indexes" in what for what in fixes)
    assert document["missing_extras"] == {"export": pip_line("export")}


def test_env_lists_extras_last_in_few_lines(monkeypatch, capsys):
    monkeypatch.setattr(environment, "installed", lambda module: module != "onnxscript")
    assert main(["env"]) == 0
    printed = capsys.readouterr()
    before, _, after = printed.out.partition("\nextras ")
    assert "provider cpu" in before
    assert re.search(r"not installed\s+export\n$", after)
    assert "virtual-camera" in after.partition("not installed")[0]
    assert len((after + printed.err).splitlines()) < 10


def test_pytorch_is_imported_only_when_asked(monkeypatch, capsys):
    real = environment.importlib.import_module

    def broken(name):
        if name == "torch":
            raise OSError("libtorch_cpu.so: invalid ELF header")
        return real(name)

    monkeypatch.setattr(environment.importlib, "import_module", broken)
    assert main(["env"]) == 0
    assert "--imports" in capsys.readouterr().out
    assert main(["env", "--imports"]) == 1
    assert "invalid ELF header" in capsys.readouterr().err


@pytest.mark.parametrize("second", [*OPENCV[1:], *ONNXRUNTIME[1:]])
def test_any_two_packages_with_the_same_files_are_a_problem(packages, second):
    first = OPENCV[0] if second in OPENCV else ONNXRUNTIME[0]
    packages(**{first.replace("-", "_"): "5", second.replace("-", "_"): "5"})
    (problem,) = environment.find_problems()
    assert first in problem.what
    assert second in problem.what
    kept = problem.fix.split()[-1]
    assert kept == (environment.opencv_fix().split()[-1] if second in OPENCV else second)


@pytest.mark.parametrize("display", [False, True])
@pytest.mark.parametrize("contrib", [False, True])
def test_the_fix_names_the_opencv_for_this_machine(packages, monkeypatch, display, contrib):
    packages(**({"opencv_contrib_python": "5"} if contrib else {"opencv_python": "5"}))
    monkeypatch.setattr(environment.sys, "platform", "linux")
    monkeypatch.setattr(environment.ctypes.util, "find_library", lambda _: "libGL.so.1")
    monkeypatch.setenv("DISPLAY", ":0" if display else "")
    monkeypatch.delenv("WAYLAND_DISPLAY", raising=False)
    assert environment.opencv_fix().endswith("-headless") is not display
    assert ("contrib" in environment.opencv_fix().split()[-1]) is contrib


@pytest.mark.parametrize("installed", OPENCV)
def test_the_package_with_windows_replaces_the_one_installed(packages, monkeypatch, installed):
    packages(**{installed.replace("-", "_"): "5"})
    monkeypatch.setattr(display, "toolkit", lambda: "")
    with pytest.raises(OutputError) as caught:
        display.check_display()
    uninstall, _, install = caught.value.advice.partition(" && ")
    assert uninstall.split()[-1] == installed
    assert install.split()[2].removesuffix(";") == installed.removesuffix("-headless")


@pytest.mark.parametrize("command", [["env"], ["predict", "x.jpg"]], ids=lambda command: command[0])
@pytest.mark.parametrize("content", ["", "raise ImportError('libGL.so.1: cannot open')"], ids=["emptied", "libGL"])
def test_an_opencv_that_cannot_be_used_is_named_by_every_command(tmp_path, content, command):
    (tmp_path / "cv2.py").write_text(content)
    done = subprocess.run(
        [sys.executable, "-m", "kpedge", *command],
        env=os.environ | {"PYTHONPATH": os.pathsep.join([str(tmp_path), *sys.path])},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 1
    assert "Traceback" not in done.stderr
    assert "cv2" in done.stderr or "OpenCV cannot be used" in done.stderr or "libGL" in done.stderr
    assert ("pip uninstall" if command == ["env"] else "kpedge env") in done.stderr


@pytest.mark.parametrize("module", ["cv2", "onnxruntime"])
def test_an_emptied_module_is_found(packages, monkeypatch, module):
    monkeypatch.setitem(sys.modules, module, types.ModuleType(module))
    packages(opencv_python="5", onnxruntime="2")
    (problem,) = environment.find_problems()
    assert "is empty" in problem.what
    assert "pip" in problem.fix
    assert main(["env"]) == 1


def test_a_missing_system_library_is_explained(packages, monkeypatch):
    real = environment.importlib.import_module

    def broken(name):
        if name == "cv2":
            raise ImportError("libGL.so.1: cannot open shared object file: No such file or directory")
        if name == "torch":
            raise OSError("libtorch_cpu.so: invalid ELF header")
        return real(name)

    monkeypatch.setattr(environment.importlib, "import_module", broken)
    problem, torch = environment.find_problems()
    assert "invalid ELF header" in torch.what
    assert "libGL.so.1" in problem.what
    assert "apt-get install libgl1" in problem.fix
    assert "-headless" in problem.fix


def test_a_broken_library_is_explained(monkeypatch, capsys):
    def broken(*_arguments, **_options):
        raise ImportError("libGL.so.1: cannot open shared object file")

    monkeypatch.setattr("kpedge.core.environment.find_problems", broken)
    assert main(["env"]) == 1
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("error: this installation is broken: libGL.so.1: cannot open shared object file")
    assert "kpedge env" in line


@pytest.mark.skipif(os.name != "posix", reason="closes a stream in the shell")
def test_a_closed_stream_goes_nowhere_and_nothing_is_written_into_the_home_folder(tmp_path):
    home, table = tmp_path / "home", tmp_path / "faces.csv"
    home.mkdir()
    variables = {name: value for name, value in os.environ.items() if not name.startswith(("XDG_", "ORT_"))}
    command = [sys.executable, "-m", "kpedge", "predict", str(sample_photo()), "--json", "--csv", str(table)]
    done = subprocess.run(
        ["sh", "-c", '"$@" 2>&-', "sh", *command],
        env=variables | {"HOME": str(home), "PYTHONPATH": os.pathsep.join(sys.path)},
        stdout=subprocess.PIPE,
        check=True,
    )
    assert len(json.loads(done.stdout)["faces"]) == 1
    assert len(table.read_bytes().splitlines()) == 2
    assert list(home.iterdir()) == []


class Session:
    """An onnxruntime whose CUDA provider is there and falls back to the CPU, or raises."""

    def __init__(self, model, options=None, providers=(), **_):
        if self.error and CUDA in providers:
            raise RuntimeError(self.error)

    def get_providers(self):
        return [CPU]

    def run(self, *_):
        return []


@pytest.fixture(params=["", "CUDA failure 35: driver version is insufficient\nmore"], ids=["falls back", "raises"])
def unusable_cuda(request, monkeypatch):
    monkeypatch.setattr(sessions.ort, "get_available_providers", lambda: [CUDA, "AzureExecutionProvider", CPU])
    monkeypatch.setattr(sessions.ort, "InferenceSession", type("Broken", (Session,), {"error": request.param}))


def test_a_provider_that_cannot_be_used_is_an_error_unless_auto(unusable_cuda, capsys):
    with pytest.raises(UsageError, match=f"{CUDA} cannot be used") as caught:
        new_session(TINY_MODEL, providers=providers_named("cuda"))
    assert "--provider auto" in caught.value.advice
    assert providers_named("auto") == (CPU,)
    with pytest.raises(UsageError, match="azure") as caught:
        providers_named("azure")
    assert caught.value.advice == "available: auto, cpu, cuda"
    assert provider_problem(CUDA)
    assert main(["env"]) == 1
    said = capsys.readouterr()
    assert re.search(r"provider cuda\s+does not work", said.out)
    assert "azure" not in said.out
    assert "onnxruntime-gpu[cuda,cudnn]" in said.err
