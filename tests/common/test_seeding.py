from common.seeding import rng


def test_a_stream_is_its_key() -> None:
    def draw(*key: str | int) -> list[int]:
        return rng(*key).integers(2**62, size=4).tolist()

    assert draw(1, "clinic", 2) == draw(1, "clinic", 2)
    others = [(2, "clinic", 2), (1, "Clinic", 2), (1, "clinic", 3), (1, "clinic"), ("1", "clinic", 2), (12, "clinic")]
    assert all(draw(1, "clinic", 2) != draw(*other) for other in others)
