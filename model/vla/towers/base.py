"""What a vision tower is: present views in, a fixed number of tokens a view out."""

from torch import Tensor, nn


class Tower(nn.Module):
    tokens_per_view: int
    blocks: nn.ModuleList  # compiled and sharded one by one

    def forward(self, images: Tensor) -> Tensor:
        """Tokens [X, M, D] of uint8 images [X, S, S, 3], or of float patch vectors [X, P, values] in its own order."""
        raise NotImplementedError
