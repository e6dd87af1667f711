"""Residual nets in PyTorch, for `benchmarks.resnet_matches`: ResNet-18 and 50 are torchvision's, that of 32×32 pixels is written here.

PyTorch and torchvision are imported where they are used.
"""

from collections.abc import Callable
from functools import partial
from typing import Any

from benchmarks.peers import Peer
from benchmarks.torch_peers import put


def cifar_resnet20(blocks: int = 3) -> Any:
    """The net of `jaxnn.models.CifarResNet`, its modules named as torchvision names those of its ResNet."""
    import torch
    from torch import nn
    from torch.nn import functional

    class Block(nn.Module):
        def __init__(self, below: int, above: int, stride: int) -> None:
            super().__init__()
            self.conv1, self.bn1 = nn.Conv2d(below, above, 3, stride, 1, bias=False), nn.BatchNorm2d(above)
            self.conv2, self.bn2 = nn.Conv2d(above, above, 3, 1, 1, bias=False), nn.BatchNorm2d(above)
            self.stride, self.more = stride, above - below

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            y = self.bn2(self.conv2(self.bn1(self.conv1(x)).relu()))
            skipped = x if self.stride == 1 else functional.pad(x[:, :, :: self.stride, :: self.stride], (0, 0, 0, 0, 0, self.more))
            return (y + skipped).relu()

    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv1, self.bn1, self.fc = nn.Conv2d(3, 16, 3, 1, 1, bias=False), nn.BatchNorm2d(16), nn.Linear(64, 10)
            for stage, (below, above) in enumerate(((16, 16), (16, 32), (32, 64)), 1):
                first = Block(below, above, 1 if stage == 1 else 2)
                self.add_module(f"layer{stage}", nn.Sequential(first, *(Block(above, above, 1) for _ in range(blocks - 1))))

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            x = self.bn1(self.conv1(x)).relu()
            for name in ("layer1", "layer2", "layer3"):
                x = getattr(self, name)(x)
            return self.fc(x.mean((2, 3)))

    return Net()


def small_resnet18() -> Any:
    """torchvision's ResNet-18 of ten classes, with a stem for 32×32 pixels."""
    import torchvision
    from torch import nn

    net = torchvision.models.resnet18(num_classes=10)
    net.conv1, net.maxpool = nn.Conv2d(3, 64, 3, 1, 1, bias=False), nn.Identity()
    return net


def resnet50() -> Any:
    import torchvision

    return torchvision.models.resnet50()


def residual_peer(make: Callable[[], Any], learning_rate: float, device: str = "cpu", compiled: bool = False, half: bool = False) -> Peer:
    """Training by SGD with momentum .9. `half` computes in bfloat16 under autocast; on CUDA, convolutions have channels last."""
    import torch

    torch.backends.cudnn.allow_tf32, torch.backends.cudnn.benchmark = False, True
    layout = torch.contiguous_format if device == "cpu" else torch.channels_last
    model = make().to(device, memory_format=layout).train()
    update = torch.optim.SGD(model.parameters(), lr=learning_rate, momentum=0.9)

    def mean_loss(images: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
        with torch.autocast(device, torch.bfloat16, enabled=half):
            logits = model((images.float() / 255).contiguous(memory_format=layout))
        return torch.nn.functional.cross_entropy(logits.float(), labels)

    measured = torch.compile(mean_loss, dynamic=False) if compiled else mean_loss

    def step(images: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
        update.zero_grad()
        loss = measured(images, labels)
        loss.backward()
        update.step()
        return loss.detach()

    return Peer(step, partial(put, device), lambda: [], lambda taken: torch.stack(taken).cpu().numpy())
