import json
import re

from kpedge.cli.main import main
from kpedge.core import environment


def test_env_reports_and_cures(capsys, monkeypatch):
    assert main(["env"]) == 0
    text = capsys.readouterr().out
    assert re.search(r"onnxruntime\s+\d", text)
    assert "CPUExecutionProvider" in text
    versions = {"opencv-python": "5.0", "opencv-python-headless": "5.0", "torch": "2.7.0+cpu", "torchvision": "0.22.0"}
    monkeypatch.setattr(environment, "version_of", versions.get)
    monkeypatch.setattr(environment, "installed", lambda module: module != "onnxscript")
    assert main(["env", "--json"]) == 1
    captured = capsys.readouterr()
    document = json.loads(captured.out)
    found = {problem["what"]: problem["cure"] for problem in document["problems"]}
    assert any("overwrite each other's files" in what and "pip uninstall" in cure for what, cure in found.items())
    assert any("different package indexes" in what for what in found)
    assert document["missing_extras"] == {"export": "pip install 'kpedge[export]'"}


def test_env_explains_a_missing_system_library(monkeypatch):
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
    assert "apt-get install libgl1" in problem.cure
    assert "opencv-python-headless" in problem.cure


def test_a_broken_library_is_explained(monkeypatch, capsys):
    def broken(*_arguments, **_options):
        raise ImportError("libGL.so.1: cannot open shared object file")

    monkeypatch.setattr("kpedge.core.images.read_image", broken)
    assert main(["predict", "a.png", "--box", "1,2,3,4", "--json"]) == 1
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("error: this installation is broken: libGL.so.1: cannot open shared object file")
    assert line.endswith("find the cure with: kpedge env")
