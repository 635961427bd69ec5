"""What is made of the pictures of a film that another one continues."""

import numpy as np
import torch

from echo_cli.render.openings import missing, returning


def test_latents_are_corrected_until_a_trip_through_the_codec_returns_them() -> None:
    encoded = torch.randn(1, 3, 4, 2, 2, generator=torch.Generator().manual_seed(0))

    def lossy(latents: torch.Tensor) -> torch.Tensor:
        return 0.8 * latents + 0.1

    once = (lossy(encoded) - encoded).abs().max()
    assert (lossy(returning(encoded, lossy)) - encoded).abs().max() < 0.1 * once


def test_a_frame_that_the_correction_does_not_bring_closer_stays_as_it_was_encoded() -> None:
    encoded = torch.randn(1, 2, 4, 2, 2, generator=torch.Generator().manual_seed(0))

    def again(latents: torch.Tensor) -> torch.Tensor:
        return torch.cat((0.9 * latents[:, :1], 3 * latents[:, 1:]), 1)

    corrected = returning(encoded, again)
    assert torch.equal(corrected[:, 1], encoded[:, 1]) and not torch.equal(corrected[:, 0], encoded[:, 0])


def film(count: int, step: int, within: int) -> np.ndarray:
    """Pictures that change by `step` where a group of four begins, the first picture being alone, and by `within`
    elsewhere."""
    levels = np.cumsum([0, *(step if at % 4 == 1 else within for at in range(1, count))])
    return np.broadcast_to(levels[:, None, None, None], (count, 4, 6, 3)).astype(np.uint8)


def test_a_film_that_ends_inside_a_latent_frame_is_completed() -> None:
    assert [missing(film(count, 5, 1), 4) for count in (33, 34, 35, 36)] == [0, 3, 2, 1]


def test_nothing_is_missing_where_pictures_were_not_decoded_in_groups() -> None:
    noise = np.random.default_rng(0).integers(0, 256, (40, 4, 6, 3), np.uint8)
    for pictures in (noise, film(35, 2, 1), film(35, 0, 0), noise[:1], noise[:7]):
        assert missing(pictures, 4) == 0
