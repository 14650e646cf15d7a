"""Everything that this policy computes for one inputs file and one variant, each part when it is first asked for.

Shapes: B batch, V views, X = B * V, P patches a view, M merged tokens a view, L prefix, T steps, D dimensions.
"""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from copy import deepcopy
from dataclasses import dataclass, replace
from functools import cached_property

import torch
from torch import Tensor, nn

from model.config import ActionLoss, PolicyConfig
from model.errors import UserError
from model.vla import flow
from model.vla.modalities.depth import DepthAlignment
from model.vla.modalities.views import Views
from model.vla.parity.configuration import Variant, action_dim, parameter_names, policy_config
from model.vla.parity.fixture import Batch, Fixture
from model.vla.policy import Policy
from model.vla.released import policy_state, released_name, released_shapes, released_state
from model.vla.towers.qwen2_5_vl import QwenTower

# The released AdamW run of the fixtures: a fixed batch, noise and time.
LEARNING_RATE, BETAS, ADAM_EPSILON, CLIP_NORM = 1e-3, (0.9, 0.95), 1e-8, 1.0


@dataclass(frozen=True, kw_only=True, eq=False)
class Run:
    """One policy with the fixture's weights, and one batch."""

    fixture: Fixture
    batch: Batch
    variant: Variant
    config: PolicyConfig
    adamw_steps: int

    @classmethod
    def of(cls, fixture: Fixture, batch: Batch, variant: Variant, adamw_steps: int) -> "Run":
        config = policy_config(fixture.config, batch, variant)
        return cls(fixture=fixture, batch=batch, variant=variant, config=config, adamw_steps=adamw_steps)

    def with_loss(self, loss: ActionLoss) -> "Run":
        """The same with another loss of the flow."""
        return replace(self, config=replace(self.config, flow=replace(self.config.flow, loss=loss)))

    def with_causal_prefix(self) -> "Run":
        """The released `vlm_causal`."""
        return replace(self, config=replace(self.config, text=replace(self.config.text, causal=True)))

    @cached_property
    def policy(self) -> Policy:
        weights = self.fixture.weights
        if not self.config.depth:
            weights = {name: tensor for name, tensor in weights.items() if not name.startswith("model.depth_align_")}
        policy = Policy(self.config)
        policy.load_state_dict(policy_state(self.config, weights))
        return policy

    @cached_property
    def names(self) -> list[str]:
        """Released names of the trained parameters, sorted as the fixture has them."""
        names = parameter_names(self.fixture.config, self.variant)
        unknown = sorted(set(names) - released_shapes(self.config).keys())
        if unknown:
            raise UserError(
                f"config.json names parameters that this policy does not have: {', '.join(unknown)}; "
                f"list those of the released '{self.variant}' model."
            )
        return names

    @property
    def s_BN(self) -> Tensor:
        """Our time of the one draw; 1 - t is exact in float64, and the fastest wave would turn 6e-8 into 1e-4."""
        return 1 - self.batch.time_B.double().unsqueeze(1)

    @property
    def action_dim(self) -> int:
        return action_dim(self.fixture.config)

    @cached_property
    def vision(self) -> dict[str, Tensor]:
        """Patch embedding and blocks [X, P, D] in the order of merge cells, merged tokens [X, M, O].

        The tower alone runs here, so absent views are compared as well.
        """
        tower = self._tower
        patches = self.batch.patches_BVPX.flatten(0, 1)
        with torch.no_grad(), captured({"patch_embed": tower.patch_embed, **numbered("block", tower.blocks)}) as seen:
            merged = tower(patches)
        # between its blocks the tower keeps patches in windows of equal size, the released one in rows of windows
        cells = tower.order.argsort()
        ordered = {name: x if name == "patch_embed" else x[:, cells] for name, x in seen.items()}
        return {**ordered, "merged": merged}

    @cached_property
    def prefix(self) -> tuple[Tensor, Tensor]:
        """Embeddings [B, L, D] and which tokens are valid, bool [B, L]."""
        with torch.no_grad():
            return self.policy.embed_prefix(self.batch.inputs)

    @cached_property
    def streams(self) -> dict[str, Tensor]:
        """Hidden states of both streams by name [B, tokens, size], and the network's output `velocity` [B, T, D]."""
        backbone, expert, batch = self.policy.backbone, self.policy.expert, self.batch
        modules = {
            **numbered("vlm.layer", backbone.layers),
            **numbered("expert.layer", expert.layers),
            "expert.final_norm": expert.norm,
        }
        with torch.no_grad(), captured(modules) as seen:
            hidden, cache = self.policy.encode(batch.inputs)
            velocity = self.policy.denoise(batch.state_BD, self._noisy, self.s_BN, cache)
        one_draw = {name: tensor.squeeze(1) if name.startswith("expert") else tensor for name, tensor in seen.items()}
        return {**one_draw, "vlm.final_norm": hidden, "velocity": velocity.squeeze(1)}

    @cached_property
    def condition(self) -> Tensor:
        """The time embedding [B, 1, E], which modulates the expert's norms."""
        return flow.time_embedding(flow.released_time(self.s_BN), self.config.expert.hidden_size)

    @cached_property
    def suffix(self) -> Tensor:
        """State and action tokens [B, 1 + T, E]."""
        with torch.no_grad():
            return self.policy.embed_suffix(self.batch.state_BD, self._noisy, self.condition).squeeze(1)

    @property
    def _noisy(self) -> Tensor:
        actions, noise = self.batch.actions_BTD.unsqueeze(1), self.batch.noise_BTD.unsqueeze(1)
        return flow.interpolate(actions, noise, self.s_BN).float()

    @cached_property
    def errors(self) -> Tensor:
        """The loss of every element [B, T, D]."""
        return flow.training_error(
            self.config.flow, self.streams["velocity"], self.batch.actions_BTD, self.batch.noise_BTD
        )

    @cached_property
    def training(self) -> "TrainingPass":
        """Losses, gradients by released name, depth predictions of present views."""
        policy = self.policy
        policy.zero_grad()
        with captured(self._depth_head) as seen:
            losses = self.losses(policy)
        losses["total"].backward()
        # the released last layer of a policy without depth leads nowhere: no gradient counts as zero
        gradients = {
            name: torch.zeros_like(p) if p.grad is None else p.grad.clone() for name, p in policy.named_parameters()
        }
        return TrainingPass(
            losses={name: loss.detach() for name, loss in losses.items()},
            gradients=released_state(self.config, gradients),
            depth_tokens=seen["depth"].detach() if seen else None,
        )

    @property
    def _tower(self) -> QwenTower:
        views = self.policy.modalities["views"]
        assert isinstance(views, Views) and isinstance(views.tower, QwenTower)
        return views.tower

    @property
    def _depth_head(self) -> dict[str, nn.Module]:
        """The last module of the head, by the name of its output; nothing without depth."""
        if not self.config.depth:
            return {}
        depth = self.policy.modalities["depth"]
        assert isinstance(depth, DepthAlignment)
        return {"depth": depth.norm_out}

    def losses(self, policy: Policy) -> dict[str, Tensor]:
        """The policy's own losses on the fixture's one draw."""
        batch = self.batch
        return policy.losses(batch.inputs, batch.targets(self.action_dim), batch.noise_BTD.unsqueeze(1), self.s_BN)

    @cached_property
    def adamw(self) -> tuple[Tensor, Tensor]:
        """Total losses and gradient norms before clipping, of `adamw_steps` steps on the one batch."""
        policy = deepcopy(self.policy)
        policy.zero_grad()
        for name, parameter in policy.named_parameters():
            parameter.requires_grad_(released_name(name) in self.names)
        trained = [parameter for parameter in policy.parameters() if parameter.requires_grad]
        optimizer = torch.optim.AdamW(trained, lr=LEARNING_RATE, betas=BETAS, eps=ADAM_EPSILON, weight_decay=0.0)
        losses, norms = [], []
        for _ in range(self.adamw_steps):
            optimizer.zero_grad()
            loss = self.losses(policy)["total"]
            loss.backward()
            norms.append(nn.utils.clip_grad_norm_(trained, CLIP_NORM).detach())
            optimizer.step()
            losses.append(loss.detach())
        return torch.stack(losses), torch.stack(norms)

    def sample(self, num_steps: int) -> Tensor:
        """Actions [B, T, D] from the fixture's noise."""
        return self.policy.sample(self.batch.inputs, self.batch.noise_BTD.clone(), num_steps)

    def executed_steps(self, num_steps: int) -> int:
        """How often sampling really asks the network."""
        calls = []
        handle = self.policy.expert.norm.register_forward_hook(lambda *_: calls.append(1))
        self.sample(num_steps)
        handle.remove()
        return len(calls)


@dataclass(frozen=True, kw_only=True)
class TrainingPass:
    losses: Mapping[str, Tensor]
    gradients: Mapping[str, Tensor]
    depth_tokens: Tensor | None


def numbered(name: str, modules: nn.ModuleList) -> dict[str, nn.Module]:
    return {f"{name}{i}": module for i, module in enumerate(modules)}


@contextmanager
def captured(modules: Mapping[str, nn.Module]) -> Iterator[dict[str, Tensor]]:
    """The outputs of modules while the block runs; the first of a tuple."""
    seen: dict[str, Tensor] = {}

    def keep(name: str, output: Tensor | tuple[Tensor, ...]) -> None:
        seen[name] = output[0] if isinstance(output, tuple) else output

    handles = [
        module.register_forward_hook(lambda _module, _inputs, output, name=name: keep(name, output))
        for name, module in modules.items()
    ]
    try:
        yield seen
    finally:
        for handle in handles:
            handle.remove()
