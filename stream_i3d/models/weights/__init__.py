"""The packaged weights; MODEL_CARD.md describes their abilities and limits."""
