"""What teachers say of the training captions, kept in memory, so that it is computed only once.

A teacher's probabilities of a caption are the same in every epoch where every epoch has the same
features. A teacher is larger than its student: computing them anew takes longer than the student's
own step.

Captions are computed in fixed groups, the batches of the first epoch. So a value never depends on
where a run was stopped, in bf16 neither, and no epoch takes longer than it would without the table.
"""

import math
from collections.abc import Callable, Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from showtell.config import Config
from showtell.training.corpus import Corpus

MOST_BYTES = 2**29

Captions = NDArray[np.int64]


def is_worth_it(config: Config, corpus: Corpus, num_words: int) -> bool:
    """Whether a table would be read again, and fits into memory.

    Args:
        num_words: that teachers know.
    """
    if config.encoder.views or config.encoder.reads_pictures:  # the features vary
        return False
    if config.training.batch_by == "drawn_length":  # an epoch misses captions
        return False
    num_bytes = 2 * num_words * (len(corpus.ids) + len(corpus))
    return config.training.num_epochs > 1 and num_bytes <= MOST_BYTES


class TeacherTable:
    """Log-probabilities of every next word of every caption, in fp16.

    Args:
        groups: caption numbers, each in exactly one group.
        num_words: that teachers know.
        compute: captions (B,) -> (N, V) of their N tokens and ends, caption by caption.
    """

    def __init__(
        self,
        corpus: Corpus,
        groups: Sequence[Captions],
        num_words: int,
        compute: Callable[[Captions], Tensor],
        device: str,
    ) -> None:
        self.groups, self.compute = groups, compute
        # Where each caption begins in the table: after the words and ends of those before it.
        self.starts = np.concatenate([[0], np.cumsum(corpus.num_targets)])
        self.values = torch.empty(
            (int(self.starts[-1]), num_words), dtype=torch.float16, device=device
        )
        self.group_of = np.empty(len(corpus), np.int64)
        for number, group in enumerate(groups):
            self.group_of[group] = number
        self.is_known = np.zeros(len(groups), np.bool_)

    def log_probs(self, captions: Captions, num_words: int) -> Tensor:
        """(N, V) in fp32 of the N tokens and ends of captions (B,), caption by caption.

        Args:
            num_words: V, the student's words; -inf for those that teachers lack.
        """
        for number in np.unique(self.group_of[captions]):
            if not self.is_known[number]:
                group = self.groups[number]
                self.values[self._places(group)] = self.compute(group).half()
                self.is_known[number] = True
        found = self.values[self._places(captions)].float()
        missing = num_words - found.shape[1]
        return torch.nn.functional.pad(found, (0, missing), value=-math.inf)

    def _places(self, captions: Captions) -> Tensor:
        """(N,) rows of the table."""
        rows = [np.arange(self.starts[one], self.starts[one + 1]) for one in captions]
        return torch.from_numpy(np.concatenate(rows)).to(self.values.device)
