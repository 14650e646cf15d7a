"""`lingbot bundle`, as it is typed."""

from pipelines.cli import main


def test_create_then_verify_then_damage(tmp_path, capsys):
    path = tmp_path / "bundle"
    assert main(["bundle", "create", str(path), "--seed", "3"]) == 0
    made = capsys.readouterr().out
    assert "parameters, aloha_sim" in made and f"lingbot serve --bundle {path}" in made
    assert main(["bundle", "verify", str(path)]) == 0
    assert "is whole" in capsys.readouterr().out
    assert main(["bundle", "create", str(path)]) == 2
    assert "not an empty folder" in capsys.readouterr().err
    (path / "MODEL_CARD.md").write_text("other")
    assert main(["bundle", "verify", str(path)]) == 2
    assert "MODEL_CARD.md has other bytes" in capsys.readouterr().err


def test_unknown_names_are_told_with_the_nearest(tmp_path, capsys):
    assert main(["bundle", "create", str(tmp_path / "a"), "--preset", "debgu"]) == 2
    assert "Did you mean 'debug'?" in capsys.readouterr().err
    assert main(["bundle", "create", str(tmp_path / "b"), "--robot", "aloha_simm"]) == 2
    assert "aloha_sim" in capsys.readouterr().err
    assert main(["bundle", "verify", str(tmp_path)]) == 2
    assert "is not a bundle" in capsys.readouterr().err
