"""A model written as the notebook's files is the same model, there and back."""

import pickle
from pathlib import Path

import pytest
import torch
from cli_shell import Shell
from course_files import (
    DecoderRNN,
    EncoderCNN,
    normalised,
    picture,
    pixels,
    save_files,
    trained_models,
)

import showtell
from showtell.course.load import import_notebook
from showtell.course.save import export_notebook
from showtell.encoders.features import Features
from showtell.errors import CheckpointError
from showtell.inference.checkpoint import load_checkpoint


@pytest.mark.slow
@pytest.mark.parametrize("norm", [pytest.param(False, marks=pytest.mark.costly), True])
def test_there_and_back(tmp_path: Path, norm: bool) -> None:
    """With a batch norm after the embedding as well, which the course's model does not have."""
    encoder, decoder = trained_models(50, norm=norm)
    import_notebook(*save_files(tmp_path / "files", encoder, decoder), tmp_path / "model")
    files = export_notebook(tmp_path / "model", tmp_path / "again")
    assert [path.name for path in files] == ["encoder-1.pkl", "decoder-1.pkl", "vocab.pkl"]

    words = pickle.loads(files[2].read_bytes())  # our own file: plain containers
    assert type(words) is dict and words["idx2word"][words["word2idx"]["red"]] == "red"
    theirs = EncoderCNN(16, 50), DecoderRNN(16, 32, words["idx"])
    for model, path in zip(theirs, files, strict=False):
        model.load_state_dict(torch.load(path, weights_only=True))
        model.eval()
    image = picture()
    with torch.no_grad():
        before = encoder(normalised(pixels(image)))
        after = theirs[0](normalised(pixels(image)))
        torch.testing.assert_close(after, before, atol=1e-4, rtol=1e-4)
        said = [words["idx2word"][i] for i in _sample(theirs[1], after, words["word2idx"]["<end>"])]
    assert said[0] == "<start>"
    captioner = showtell.load(tmp_path / "model")
    assert captioner.caption(image).text == " ".join(said[1:])

    import_notebook(*files, tmp_path / "third")
    tokens = torch.tensor([[1, 4, 5, 6]])
    first, third = (load_checkpoint(tmp_path / name) for name in ("model", "third"))
    assert first.vocabulary.words == third.vocabulary.words
    features = Features(torch.rand(1, 2048))
    with torch.no_grad():
        torch.testing.assert_close(
            third.decoder(features, tokens), first.decoder(features, tokens), atol=1e-5, rtol=1e-5
        )


def _sample(decoder: DecoderRNN, features: torch.Tensor, end: int) -> list[int]:
    """The notebook's sample up to the end, whose number is another here."""
    inputs, states, said = features.unsqueeze(1), None, []
    for _ in range(20):
        hidden, states = decoder.lstm(inputs, states)
        word = decoder.hidden2vocab(hidden.squeeze(1)).argmax(1)
        if int(word) == end:
            break
        said.append(int(word))
        inputs = decoder.word_embeddings(word).unsqueeze(1)
    return said


def test_other_models_are_refused_in_one_line(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="this model's decoder is transformer"):
        export_notebook("default", tmp_path / "files")
    assert not (tmp_path / "files").exists()
    outcome = Shell(tmp_path)("export", "default", "--format", "notebook")
    assert outcome.returncode == 2
    assert "--format notebook takes -o FOLDER" in outcome.stderr
