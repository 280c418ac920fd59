"""A WordPiece tokenizer made from the texts themselves, for encoders with random weights."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable

from tokenizers import Tokenizer, normalizers, pre_tokenizers, processors
from tokenizers.models import WordPiece
from transformers import PreTrainedTokenizerFast

SPECIAL_TOKENS = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]")
LARGEST_VOCABULARY = 30522


def tokenizer_from_texts(texts: Iterable[str]) -> PreTrainedTokenizerFast:
    """Make a lower-casing WordPiece tokenizer of BERT's form.

    Its vocabulary is the special tokens, every character alone and as a continuation, then
    words by falling frequency and alphabet, 30,522 entries at most. The same texts in any order
    give the same tokenizer.

    Parameters
    ----------
    texts : iterable of str
        The texts that will be encoded.
    """
    normalizer = normalizers.BertNormalizer(lowercase=True)
    pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    words: Counter[str] = Counter()
    for text in texts:
        pieces = pre_tokenizer.pre_tokenize_str(normalizer.normalize_str(text))
        words.update(word for word, _ in pieces)
    characters = sorted({character for word in words for character in word})
    by_frequency = sorted(words, key=lambda word: (-words[word], word))
    entries = [*SPECIAL_TOKENS, *characters, *(f"##{c}" for c in characters), *by_frequency]
    distinct = list(dict.fromkeys(entries))[:LARGEST_VOCABULARY]
    vocabulary = {entry: number for number, entry in enumerate(distinct)}
    tokenizer = Tokenizer(WordPiece(vocabulary, unk_token="[UNK]"))
    tokenizer.normalizer = normalizer
    tokenizer.pre_tokenizer = pre_tokenizer
    tokenizer.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]",
        special_tokens=[(token, vocabulary[token]) for token in ("[CLS]", "[SEP]")],
    )
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        pad_token="[PAD]",
        unk_token="[UNK]",
        cls_token="[CLS]",
        sep_token="[SEP]",
        mask_token="[MASK]",
    )
