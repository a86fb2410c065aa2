"""What each group of figures answers."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field


class NotMeasured(Exception):
    """A condition that a measurement needs never came."""


@dataclass(frozen=True, slots=True)
class Measured:
    """Figures by name, and sentences about how they were measured."""

    figures: Mapping[str, float] = field(default_factory=dict)
    notes: tuple[str, ...] = ()

    def with_more(self, other: Measured) -> Measured:
        """Both."""
        return Measured({**self.figures, **other.figures}, (*self.notes, *other.notes))
