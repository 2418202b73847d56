"""The weights that the package carries; MODEL_CARD.md says what they can and cannot do."""
