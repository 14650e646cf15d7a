"""LingBot-VLA: a vision-language prefix, an action expert on flow matching, depth and goal queries between them.

One prefix pass serves every noise draw in training and every Euler step in sampling. Everything here is normalised and
canonical: images uint8, states and actions as the transforms leave them. See SPEC_VLA sections 1 and 2.

Shapes: B batch, V views, K text tokens, T action steps, D canonical dimensions, N noise draws, L prefix, E expert size.
"""

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from model.config import PolicyConfig
from model.errors import UserError
from model.vla import flow
from model.vla.depth_alignment import DepthAlignment
from model.vla.goal import GoalHead
from model.vla.layout import PrefixLayout
from model.vla.transformer import PrefixCache, TwoStreamTransformer
from model.vla.vision import VisionTower, normalize_images, patchify


@dataclass(frozen=True, kw_only=True)
class Inputs:
    """What the robot sees and is told. Absent views: `image_mask` False, pixels ignored."""

    images: Tensor  # uint8 [B, V, S, S, 3]
    image_mask: Tensor  # bool [B, V]
    tokens: Tensor  # int64 [B, K]
    token_mask: Tensor  # bool [B, K]
    state: Tensor  # [B, D]


@dataclass(frozen=True, kw_only=True)
class Targets:
    """What training compares with. Padded steps and unused dimensions are out of the loss (UPSTREAM_FAULTS 2)."""

    actions: Tensor  # [B, T, D]
    step_mask: Tensor  # bool [B, T], False past the end of the episode
    dimension_mask: Tensor  # bool [B, D], False for dimensions that the robot does not have
    depth_tokens: Tensor | None = None  # [B, V, N, C]
    depth_mask: Tensor | None = None  # bool [B, V]
    goal: Tensor | None = None  # [B, 3]
    goal_mask: Tensor | None = None  # bool [B]


class Policy(nn.Module):
    def __init__(self, config: PolicyConfig):
        super().__init__()
        size, expert = config.text.hidden_size, config.expert.hidden_size
        self.config = config
        self.layout = PrefixLayout.of(config)
        self.vision = VisionTower(config.vision, size)
        self.embed_tokens = nn.Embedding(config.text.vocab_size, size)
        self.transformer = TwoStreamTransformer(config)
        self.state_proj = nn.Linear(config.dimensions, expert)
        self.action_in_proj = nn.Linear(config.dimensions, expert)
        self.action_time_mlp_in = nn.Linear(2 * expert, expert)
        self.action_time_mlp_out = nn.Linear(expert, expert)
        self.action_out_proj = nn.Linear(expert, config.dimensions)
        self.depth = DepthAlignment(config.depth, size) if config.depth else None
        image_tokens = config.views * config.vision.tokens_per_view
        self.goal = GoalHead(config.goal, image_tokens, size) if config.goal else None
        self.visibility: Tensor
        self.register_buffer("visibility", self.layout.visibility(), persistent=False)

    def encode(self, inputs: Inputs) -> tuple[Tensor, PrefixCache]:
        """Runs the prefix: final hidden states [B, L, D] and the cache that suffixes attend to."""
        self._check(inputs)
        B, V = inputs.image_mask.shape
        image_tokens = self._embed_views(inputs)
        parts = [image_tokens]
        if self.depth:
            parts.append(self.depth.queries().repeat(V, 1).expand(B, -1, -1))
        if self.goal:
            parts.append(self.goal.queries(image_tokens))
        parts.append(self.embed_tokens(inputs.tokens))
        valid = self.layout.valid(inputs.image_mask, inputs.token_mask)
        mask = self.layout.mask(valid, self.visibility)
        return self.transformer.prefix(torch.cat(parts, dim=1), valid, mask)

    def _embed_views(self, inputs: Inputs) -> Tensor:
        """[B, V * M, D]: only present views go through the tower; absent ones stay zero and masked."""
        B, V = inputs.image_mask.shape
        present = inputs.image_mask.flatten().nonzero().squeeze(1)
        images = inputs.images.flatten(0, 1)[present]
        embedded = self.vision(patchify(normalize_images(images), self.config.vision))
        if len(present) == B * V:
            return embedded.view(B, -1, embedded.shape[-1])
        slots = embedded.new_zeros(B * V, *embedded.shape[1:])
        return slots.index_copy(0, present, embedded).view(B, -1, embedded.shape[-1])

    def denoise(self, state_BD: Tensor, x_BNTD: Tensor, s_BN: Tensor, cache: PrefixCache) -> Tensor:
        """The network's prediction [B, N, T, D] for noisy actions x at public times s."""
        time = flow.time_embedding(flow.released_time(s_BN), self.config.expert.hidden_size)
        modulations = self.transformer.modulations(time.to(state_BD.dtype).unsqueeze(2))
        return self._denoise(state_BD, x_BNTD, time, modulations, cache)

    def _denoise(self, state: Tensor, x: Tensor, time: Tensor, modulations: list, cache: PrefixCache) -> Tensor:
        N, T = x.shape[1:3]
        actions = self.action_in_proj(x)
        actions = torch.cat([actions, time.to(actions.dtype).unsqueeze(2).expand_as(actions)], dim=-1)
        actions = self.action_time_mlp_out(F.silu(self.action_time_mlp_in(actions)))
        state_token = self.state_proj(state)[:, None, None].expand(-1, N, 1, -1)
        hidden = self.transformer.suffix(torch.cat([state_token, actions], dim=2), modulations, cache)
        return self.action_out_proj(hidden[:, :, -T:])

    def losses(self, inputs: Inputs, targets: Targets, noise: Tensor, s: Tensor) -> dict[str, Tensor]:
        """Losses by name and their weighted sum under `total`. `noise` [B, N, T, D] and `s` [B, N] are the draws."""
        hidden, cache = self.encode(inputs)
        actions = targets.actions.unsqueeze(1)
        x = flow.interpolate(actions, noise, s)
        predicted = self.denoise(inputs.state, x, s, cache)
        error = flow.training_error(self.config.flow, predicted.float(), actions.float(), noise.float())
        used = (targets.step_mask[:, :, None] & targets.dimension_mask[:, None, :]).unsqueeze(1)
        losses = {"action": (error * used).sum() / (used.sum() * noise.shape[1]).clamp_min(1)}
        losses["total"] = losses["action"]
        if self.depth and targets.depth_tokens is not None and targets.depth_mask is not None:
            losses["depth"] = self._depth_loss(hidden, targets.depth_tokens, targets.depth_mask & inputs.image_mask)
            losses["total"] = losses["total"] + self.depth.config.weight * losses["depth"]
        if self.goal and self.config.goal and targets.goal is not None and targets.goal_mask is not None:
            predicted_goal = self.goal.predict(hidden[:, self.layout.goal])
            losses["goal"] = self.goal.loss(predicted_goal.float(), targets.goal, targets.goal_mask)
            losses["total"] = losses["total"] + self.config.goal.weight * losses["goal"]
        return losses

    def _depth_loss(self, hidden: Tensor, target_BVNC: Tensor, mask_BV: Tensor) -> Tensor:
        assert self.depth is not None
        V = mask_BV.shape[1]
        image_hidden = hidden[:, self.layout.images].unflatten(1, (V, -1)).flatten(0, 1)
        query_hidden = hidden[:, self.layout.depth].unflatten(1, (V, -1)).flatten(0, 1)
        present = mask_BV.flatten().nonzero().squeeze(1)
        if not len(present):
            return hidden.sum() * 0
        predicted = self.depth.predict(image_hidden[present], query_hidden[present])
        return self.depth.loss(predicted.float(), target_BVNC.flatten(0, 1)[present])

    @torch.inference_mode()
    def sample(self, inputs: Inputs, noise_BTD: Tensor, num_steps: int | None = None) -> Tensor:
        """Actions [B, T, D], normalised, by Euler integration from `noise_BTD` over one cached prefix."""
        _, cache = self.encode(inputs)
        steps = num_steps or self.config.flow.num_steps
        x = noise_BTD.unsqueeze(1)
        for s in flow.euler_schedule(steps):
            s_BN = torch.full(x.shape[:2], s, device=x.device)
            predicted = self.denoise(inputs.state, x, s_BN, cache)
            x = x + flow.to_velocity(self.config.flow, predicted.float(), x, s_BN) / steps
        return x.squeeze(1)

    @torch.inference_mode()
    def predict_goal(self, inputs: Inputs) -> Tensor:
        """Normalised goal [B, 3] of the image-only queries; for pictures and tests."""
        assert self.goal is not None
        hidden, _ = self.encode(inputs)
        return self.goal.predict(hidden[:, self.layout.goal])

    def _check(self, inputs: Inputs) -> None:
        config, size = self.config, self.config.vision.image_size
        rules = (
            ("views", inputs.images.shape[1], config.views),
            ("image height", inputs.images.shape[2], size),
            ("image width", inputs.images.shape[3], size),
            ("text length", inputs.tokens.shape[1], config.text.max_length),
            ("state size", inputs.state.shape[-1], config.dimensions),
        )
        for what, value, expected in rules:
            if value != expected:
                raise UserError(
                    f"{what} is {value}, but this policy ({config.name}) takes {expected}: "
                    f"prepare the input with the bundle's transforms."
                )


def parameter_count(policy: nn.Module) -> int:
    return sum(p.numel() for p in policy.parameters())
