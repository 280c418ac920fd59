"""MIMIC: text, vision and cross-modal units, each with a score of its own.

With t, t', T, v, V of the mention (m) and the entity (e) as in `mmsim.models.matching`, which also
has the text unit:

Text
    A = softmax(W_q T_e (W_k T_m)^T / sqrt(h));  c = LN(mean_rows(A W_v T_m))
    s_T = 1/2 [t'_m . t'_e + (W_c t_e) . c]

Vision
    D(a -> b):  q = W v_a,  k = W v_b,  p = mean(W' V_b)
                z = F LN_1(p + q),  g = tanh(w . z)
                D = LN_2(g z + k) . LN_2(q)
    s_V = 1/2 [D(e -> m) + D(m -> e)], each direction with weights of its own

Cross-modal, the same weights for mentions and entities
    x = W_t t,  Y = W_i V
    r = LN(tanh(w . x) x + softmax(x Y^T) Y)
    s_C = r_m . r_e

    S = (s_T + s_V + s_C) / 3,  L = CE(S) + CE(s_T) + CE(s_V) + CE(s_C)

Source: Luo et al. 2023, "Multi-Grained Multimodal Interaction Network for Entity Linking" (KDD).

Differences from the released code:

* The features are frozen, and one linear map for each modality brings them to the width h; there
  the encoder is trained. As there, the texts as a whole are compared in their own width, here
  after a square map that takes the place of the trained encoder.
* v is the mean of V, not a class token. So p = W' v: in the vision unit, local features tell
  nothing that the global one does not.
* Padding takes part in no softmax and no mean.
* A mention's gold stands among the candidates once, however many mentions of the batch share it;
  there each copy but the mention's own is a negative.
* A missing image is a learned vector, not a black picture.
* Each mention is also set against candidates of its own, not only the golds of the batch.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from mmsim.models.linking import Encoded, LinkConfig, dot
from mmsim.models.matching import Features, Matching, Unit, UnitHead


class Direction(nn.Module):
    """D(a -> b): how well the image b, in the light of a, agrees with a.

    Parameters
    ----------
    width : int
    """

    def __init__(self, width: int) -> None:
        super().__init__()
        self.whole = nn.Linear(width, width, bias=False)
        self.local = nn.Linear(width, width, bias=False)
        self.fuse = nn.Linear(width, width, bias=False)
        self.gate = nn.Linear(width, 1, bias=False)
        self.norm_in = nn.LayerNorm(width)
        self.norm_out = nn.LayerNorm(width)

    def forward(self, query: Tensor, key: Tensor, local: Tensor) -> Tensor:
        """Return D for pairs.

        Parameters
        ----------
        query, key, local : Tensor
            q of image a, k and p of image b, of shapes that broadcast to (M, E, h).

        Returns
        -------
        Tensor, shape (M, E)
        """
        z = self.fuse(self.norm_in(local + query))  # (M, E, h)
        fused = torch.addcmul(key, torch.tanh(self.gate(z)), z)
        return (self.norm_out(fused) * self.norm_out(query)).sum(-1)


class Vision(Unit):
    """The vision unit: the global feature of one image joins the other's, both ways.

    Parameters
    ----------
    width : int
    """

    def __init__(self, width: int) -> None:
        super().__init__()
        self.to_mention = Direction(width)
        self.to_entity = Direction(width)

    def encode_mentions(self, features: Features) -> Encoded:
        """Encode M mentions: all (M, h)."""
        return self._encode(features, source=self.to_entity, target=self.to_mention)

    def encode_entities(self, features: Features) -> Encoded:
        """Encode E entities: all (E, h)."""
        return self._encode(features, source=self.to_mention, target=self.to_entity)

    def forward(self, mentions: Encoded, entities: Encoded) -> Tensor:
        """Return the scores, (M, E) or (M, C), as `entities` is."""
        m = {name: each.unsqueeze(1) for name, each in mentions.items()}  # (M, 1, h)
        to_mention = self.to_mention(entities["query"], m["key"], m["local"])
        to_entity = self.to_entity(m["query"], entities["key"], entities["local"])
        return (to_mention + to_entity) / 2

    def global_vectors(self, encoded: Encoded) -> None:
        """Return None: every part of the score looks at both images together."""
        return None

    def _encode(self, features: Features, source: Direction, target: Direction) -> Encoded:
        whole = features.whole["image"]
        # The mean of W' V is W' of the mean, which is v.
        return {
            "query": source.whole(whole),
            "key": target.whole(whole),
            "local": target.local(whole),
        }


class Cross(Unit):
    """The cross-modal unit: the text looks at the cells of its own item's image.

    Parameters
    ----------
    width : int
    """

    def __init__(self, width: int) -> None:
        super().__init__()
        self.text = nn.Linear(width, width, bias=False)
        self.image = nn.Linear(width, width, bias=False)
        self.gate = nn.Linear(width, 1, bias=False)
        self.norm = nn.LayerNorm(width)

    def encode_mentions(self, features: Features) -> Encoded:
        """Encode M mentions: vector (M, h)."""
        return {"vector": self._encode(features)}

    def encode_entities(self, features: Features) -> Encoded:
        """Encode E entities: vector (E, h)."""
        return {"vector": self._encode(features)}

    def forward(self, mentions: Encoded, entities: Encoded) -> Tensor:
        """Return the scores, (M, E) or (M, C), as `entities` is."""
        return dot(mentions["vector"], entities["vector"])

    def global_vectors(self, encoded: Encoded) -> Tensor:
        """Return r, shape (items, h)."""
        return encoded["vector"]

    def _encode(self, features: Features) -> Tensor:
        text = self.text(features.whole["text"])  # (items, h)
        cells = features.tokens["image"]
        image = self.image(cells.values)  # (items, n, h)
        logits = torch.einsum("bh,bnh->bn", text, image).masked_fill(~cells.mask, -torch.inf)
        context = torch.einsum("bn,bnh->bh", logits.softmax(-1), image)
        return self.norm(torch.addcmul(context, torch.tanh(self.gate(text)), text))


class Mimic(UnitHead):
    """Multi-grained multimodal interaction: the mean of a text, a vision and a cross-modal unit.

    Parameters
    ----------
    config : LinkConfig
        `without` may be "text", "image", "cross" or "unit_losses".
    """

    def __init__(self, config: LinkConfig) -> None:
        width = config.unit_width
        units = {"text": Matching(width, "text"), "image": Vision(width), "cross": Cross(width)}
        super().__init__(config, units, sentences=config.without != "text")
