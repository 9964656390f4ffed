"""One place for each family of tokenizers; adding one touches its own folder only."""

from vidtok_ref.families.registry import Family, all_families, family_of, find_variant, make_model, variants

__all__ = ["Family", "all_families", "family_of", "find_variant", "make_model", "variants"]
