import torch

from policies.models.hf_cache import HfPrefixes, KeysValues


def part(start: int, tokens: int) -> KeysValues:
    """Two layers of 2 heads of width 1, whose numbers are positions: 4 x 2 x 2 x tokens bytes."""
    keys = torch.arange(start, start + tokens, dtype=torch.float32).expand(2, tokens)[..., None]
    return [(keys, -keys), (keys + 0.5, -keys)]


def test_a_prefix_is_its_parts() -> None:
    kept = HfPrefixes(1 << 20)
    root = kept.add("s", (1, 2), None, part(0, 2))
    leaf = kept.add("s", (1, 2, 3, 4, 5), root, part(2, 3))
    assert kept.find("s", (1, 2, 3, 4, 5)) is leaf
    assert kept.find("s", (1, 2, 3)) is kept.find("other", (1, 2)) is None
    (keys, values), (second, _) = leaf.whole()
    assert keys[0, :, 0].tolist() == [0, 1, 2, 3, 4]
    assert values.equal(-keys)
    assert second.equal(keys + 0.5)
    assert kept.bytes == 5 * 4 * 2 * 2 * 2
    assert kept.add("s", (1, 2), None, part(9, 2)) is root  # what is there stays


def test_ends_that_were_not_used_lately_go_first() -> None:
    kept = HfPrefixes(4 * 32)
    root = kept.add("s", (1,), None, part(0, 1))
    leaves = [kept.add("s", (1, token), root, part(1, 1)) for token in (2, 3, 4)]
    kept.trim()
    assert all(leaf.kept for leaf in leaves)
    kept.find("s", (1, 2))
    late = kept.add("s", (1, 5), root, part(1, 1))
    kept.trim()
    assert [leaf.kept for leaf in (root, *leaves, late)] == [True, True, False, True, True]
    assert kept.bytes == 4 * 32
    orphan = kept.add("s", (1, 3, 6), leaves[1], part(2, 1))  # what is before it is gone
    assert not orphan.kept
    assert orphan.whole()[0][0][0, :, 0].tolist() == [0, 1, 2]
    assert kept.find("s", (1, 3, 6)) is None


def test_a_scope_is_dropped_whole() -> None:
    kept = HfPrefixes(1 << 20)
    first = kept.add("a", (1,), None, part(0, 1))
    other = kept.add("b", (1,), None, part(0, 1))
    kept.drop("a")
    kept.drop("nobody")
    assert (first.kept, other.kept, kept.bytes) == (False, True, 32)
    kept.limit = 0
    kept.trim()
    assert (other.kept, kept.bytes) == (False, 0)


def test_the_longest_that_is_kept_of_a_known_prefix_is_split_where_others_leave_it() -> None:
    kept = HfPrefixes(1 << 20)
    root = kept.add("s", (1, 2), None, part(0, 2))
    leaf = kept.add("s", (1, 2, 3, 4, 5), root, part(2, 3))
    assert kept.longest(leaf, (1, 2, 3, 4, 5)) is leaf
    assert kept.longest(leaf, (1, 2, 3, 4, 5, 6)) is leaf
    assert kept.longest(leaf, (1, 2)) is root
    assert kept.longest(leaf, (9, 2, 3)) is kept.longest(leaf, ()) is kept.longest(None, (1,)) is None
    fork = kept.longest(leaf, (1, 2, 3, 4))
    assert fork is not None
    assert fork is kept.find("s", (1, 2, 3, 4)) is leaf.before is kept.longest(leaf, (1, 2, 3, 4))
    assert (fork.before, root.after, fork.after, leaf.after) == (root, 1, 1, 0)
    assert [each.whole()[1][0][0, :, 0].tolist() for each in (fork, leaf)] == [
        [0.5, 1.5, 2.5, 3.5],
        [0.5, 1.5, 2.5, 3.5, 4.5],
    ]
    assert kept.bytes == 5 * 32
    first = kept.longest(root, (1,))
    assert first is not None
    assert (first.before, root.before, len(kept)) == (None, first, 4)
    kept.limit = 4 * 32
    kept.trim()
    assert (leaf.kept, fork.kept, kept.bytes) == (False, True, 4 * 32)
    assert kept.longest(leaf, (1, 2, 3, 4, 5)) is fork  # what is left of it
    kept.drop("s")
    assert (kept.bytes, kept.longest(leaf, (1, 2))) == (0, None)
