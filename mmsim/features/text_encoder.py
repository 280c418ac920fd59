"""The frozen text encoder: any Hugging Face model with token states, and its tokenizer."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from transformers import AutoConfig, AutoModel, AutoTokenizer, BertConfig
from transformers.utils import logging as transformers_logging

from mmsim.errors import UserError
from mmsim.features.fingerprint import hash_of_description, hash_of_state
from mmsim.features.layout import LARGEST_FLOAT16
from mmsim.features.pipeline import to_device
from mmsim.features.vocabulary import tokenizer_from_texts

RANDOM_ENCODER = "bert-base-uncased"


@dataclass(frozen=True)
class Tokens:
    """One tokenised text: its token numbers, and whether it was longer than allowed."""

    numbers: list[int]
    truncated: bool


@dataclass(frozen=True)
class TextEncoder:
    """A frozen transformer; made by `load_text_encoder`.

    Attributes
    ----------
    name : str
        Hugging Face id, or the local folder's name.
    model, tokenizer : Any
        Of the transformers library.
    width : int
        Width of a token state.
    max_length : int
        Longest text in tokens, with the special ones.
    weights, weights_sha256 : str
        Where the weights are from, and their content's hash.
    device, precision : torch.device, torch.dtype
        Where and in which type it computes.
    """

    name: str
    model: nn.Module
    tokenizer: Any
    width: int
    max_length: int
    weights: str
    weights_sha256: str
    device: torch.device
    precision: torch.dtype

    def describe(self) -> dict[str, Any]:
        """Return all that decides the features of a text."""
        config = self.model.config.to_dict()  # type: ignore[union-attr,operator]
        for irrelevant in ("_name_or_path", "transformers_version", "dtype", "torch_dtype"):
            config.pop(irrelevant, None)
        return {
            "kind": "text",
            "encoder": self.name,
            "weights": self.weights,
            "weights_sha256": self.weights_sha256,
            "config_sha256": hash_of_description(config),
            "tokenizer_sha256": hash_of_description(_tokenizer_state(self.tokenizer)),
            "max_length": self.max_length,
            "features": "last hidden states; mean: over all tokens, with the special ones",
            "dtype": "float16",
            "precision": str(self.precision).removeprefix("torch."),
        }

    def tokenize(self, texts: Sequence[str]) -> list[Tokens]:
        """Tokenise texts; those longer than `max_length` are cut, special tokens kept."""
        whole = self.tokenizer(list(texts), verbose=False)["input_ids"]
        return [
            Tokens(numbers, False)
            if len(numbers) <= self.max_length
            else Tokens(
                self.tokenizer(text, truncation=True, max_length=self.max_length)["input_ids"],
                True,
            )
            for text, numbers in zip(texts, whole, strict=True)
        ]

    def __call__(self, batch: Sequence[Tokens]) -> dict[str, Tensor]:
        """Encode tokenised texts.

        Returns
        -------
        dict
            ``tokens`` (sum of lengths, D), ``first`` (B, D), ``mean`` (B, D), float16, and
            ``finite`` (B,): whether a row fits into float16.
        """
        lengths = np.array([len(text.numbers) for text in batch])
        shape = (len(batch), max(1, int(lengths.max())))
        numbers = np.full(shape, self.tokenizer.pad_token_id or 0, np.int64)
        for row, text in enumerate(batch):
            numbers[row, : len(text.numbers)] = text.numbers
        mask = np.arange(shape[1]) < lengths[:, None]
        kept_host = np.flatnonzero(mask)
        with torch.inference_mode():
            attended = to_device(mask, self.device)
            kept = to_device(kept_host, self.device)
            mixed = self.precision != torch.float32
            with torch.autocast(self.device.type, self.precision, enabled=mixed):
                output = self.model(
                    input_ids=to_device(numbers, self.device), attention_mask=attended.long()
                )
            # (B, L, D), padding set to zero so that sums and largest values pass over it
            states = output.last_hidden_state.float().masked_fill(~attended[..., None], 0)
            mean = states.sum(dim=1) / attended.sum(dim=1, keepdim=True).clamp(min=1)
            return {
                "tokens": states.flatten(0, 1).index_select(0, kept).half(),
                "first": states[:, 0].half(),
                "mean": mean.half(),
                "finite": states.abs().amax(dim=(1, 2)) <= LARGEST_FLOAT16,
            }


def load_text_encoder(
    encoder: str,
    weights: str,
    max_length: int,
    texts: Iterable[str],
    device: torch.device,
    precision: torch.dtype,
) -> TextEncoder:
    """Load a text encoder.

    Parameters
    ----------
    encoder : str
        Hugging Face id or local folder.
    weights : str
        ``"pretrained"``, or ``"random"`` (seeded): then `encoder` is a local folder, whose
        configuration and tokenizer are used, or ``bert-base-uncased``, whose vocabulary is made
        from `texts`, so that no network is needed.
    max_length : int
        Longest text in tokens, with the special ones.
    texts : iterable of str
        The texts to encode; read only to make a vocabulary.

    Raises
    ------
    UserError
        If the encoder is missing, cannot be downloaded, gives no token states, or takes fewer
        than `max_length` tokens.
    """
    folder = Path(encoder).expanduser()
    is_path = encoder.startswith(("/", ".", "~")) or folder.is_dir()
    if is_path and not (folder / "config.json").is_file():
        found = "has no config.json" if folder.is_dir() else "is missing"
        raise UserError(
            f"text.encoder names the folder {folder}, which {found}; give a folder that "
            f"transformers' save_pretrained wrote, or a Hugging Face id"
        )
    location = str(folder) if is_path else encoder
    with _loading(encoder), torch.random.fork_rng(devices=[]):
        # Seeded also for published weights: parts that a checkpoint lacks are drawn at random.
        torch.manual_seed(0)
        if weights == "pretrained":
            tokenizer, model = _pretrained(location)
        elif is_path:
            tokenizer = AutoTokenizer.from_pretrained(location)
            model = AutoModel.from_config(AutoConfig.from_pretrained(location))
        elif encoder == RANDOM_ENCODER:
            tokenizer = tokenizer_from_texts(texts)
            model = AutoModel.from_config(BertConfig(vocab_size=len(tokenizer)))
        else:
            raise UserError(
                f"text.weights is random, but text.encoder is {encoder!r}; random weights are for "
                f"{RANDOM_ENCODER} or a local folder with a config.json and a tokenizer"
            )
    _check(model.config, encoder, max_length)
    model = model.float().eval().requires_grad_(False)
    return TextEncoder(
        name=folder.name if is_path else encoder,
        model=model.to(device),
        tokenizer=tokenizer,
        width=model.config.hidden_size,
        max_length=max_length,
        weights="random, seed 0" if weights == "random" else "pretrained",
        weights_sha256=hash_of_state(model.state_dict()),
        device=device,
        precision=precision,
    )


def _pretrained(location: str) -> tuple[Any, Any]:
    """Load from disk where everything is there, so that no network is asked; else download."""
    try:
        tokenizer = AutoTokenizer.from_pretrained(location, local_files_only=True)
        return tokenizer, AutoModel.from_pretrained(location, local_files_only=True)
    except (OSError, ValueError):
        tokenizer = AutoTokenizer.from_pretrained(location)
        return tokenizer, AutoModel.from_pretrained(location)


@contextmanager
def _loading(encoder: str) -> Iterator[None]:
    """Keep transformers quiet, and turn its failures into advice."""
    verbosity = transformers_logging.get_verbosity()
    transformers_logging.set_verbosity_error()
    transformers_logging.disable_progress_bar()
    try:
        yield
    except (OSError, ValueError, KeyError, ImportError) as error:
        raise UserError(
            f"the text encoder {encoder!r} cannot be loaded: {_first_line(error)}. If it is a "
            f"Hugging Face id: check its spelling and the network, set HF_ENDPOINT to a mirror, "
            f"or save it to a folder elsewhere and set text.encoder to that folder; "
            f"text.weights: random needs no network"
        ) from error
    finally:
        transformers_logging.set_verbosity(verbosity)
        transformers_logging.enable_progress_bar()


def _first_line(error: Exception) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0].rstrip(".")


def _check(config: Any, encoder: str, max_length: int) -> None:
    if config.is_encoder_decoder or not hasattr(config, "hidden_size"):
        raise UserError(
            f"text.encoder {encoder!r} is a {config.model_type} model, which gives no states for "
            f"a text alone; choose an encoder such as {RANDOM_ENCODER}"
        )
    longest = getattr(config, "max_position_embeddings", None)
    if longest is not None and longest < max_length:
        raise UserError(
            f"text.max_length is {max_length}, but {encoder!r} takes at most {longest} tokens"
        )


def _tokenizer_state(tokenizer: Any) -> dict[str, Any]:
    if tokenizer.is_fast:
        # What a call sets (padding, truncation) is no part of what the tokenizer is.

        state: dict[str, Any] = json.loads(tokenizer.backend_tokenizer.to_str())
        return {key: value for key, value in state.items() if key not in ("padding", "truncation")}
    return {"class": type(tokenizer).__name__, "vocabulary": tokenizer.get_vocab()}
