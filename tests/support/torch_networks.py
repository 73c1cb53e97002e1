"""Small PyTorch networks of two usual kinds; importable where PyTorch is installed only."""

import torch
from torch import nn


def _conv(inputs, outputs, size, stride=1, groups=1, active=True):
    parts = [
        nn.Conv2d(inputs, outputs, size, stride, size // 2, groups=groups, bias=False),
        nn.BatchNorm2d(outputs),
    ]
    return nn.Sequential(*parts, *([nn.ReLU6()] if active else []))


class InvertedResidual(nn.Module):
    def __init__(self, inputs, outputs, stride, expansion=4):
        super().__init__()
        wide = inputs * expansion
        self.adds = stride == 1 and inputs == outputs
        self.body = nn.Sequential(
            _conv(inputs, wide, 1),
            _conv(wide, wide, 3, stride, wide),
            _conv(wide, outputs, 1, active=False),
        )

    def forward(self, x):
        return x + self.body(x) if self.adds else self.body(x)


class BasicBlock(nn.Module):
    def __init__(self, inputs, outputs, stride):
        super().__init__()
        self.one = _conv(inputs, outputs, 3, stride)
        self.two = _conv(outputs, outputs, 3, active=False)
        same = stride == 1 and inputs == outputs
        self.shortcut = nn.Identity() if same else _conv(inputs, outputs, 1, stride, active=False)

    def forward(self, x):
        return torch.relu(self.two(self.one(x)) + self.shortcut(x))


class Classifier(nn.Module):
    def __init__(self, body, width, classes):
        super().__init__()
        self.body, self.pool, self.head = body, nn.AdaptiveAvgPool2d(1), nn.Linear(width, classes)

    def forward(self, x):
        return self.head(torch.flatten(self.pool(self.body(x)), 1))


def mobilenetv2_like(classes=10, channels=3):
    blocks = [InvertedResidual(a, b, s) for a, b, s in ((16, 16, 1), (16, 24, 2), (24, 24, 1))]
    return _sound(
        Classifier(nn.Sequential(_conv(channels, 16, 3, 2), *blocks, _conv(24, 64, 1)), 64, classes)
    )


def resnet18_like(classes=10, channels=3):
    widths = ((16, 16, 1), (16, 16, 1), (16, 32, 2), (32, 32, 1), (32, 64, 2), (64, 64, 1))
    stem = nn.Sequential(_conv(channels, 16, 7, 2), nn.MaxPool2d(3, 2, 1))
    blocks = [BasicBlock(*width) for width in widths]
    return _sound(Classifier(nn.Sequential(stem, *blocks), 64, classes))


def _sound(model):
    """Batch norms whose statistics are not those of a fresh network."""
    generator = torch.Generator().manual_seed(0)
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            for values, low, high in (
                (module.weight, 0.7, 1.3),
                (module.bias, -0.2, 0.2),
                (module.running_mean, -0.2, 0.2),
                (module.running_var, 0.7, 1.3),
            ):
                drawn = torch.rand(values.shape, generator=generator)
                values.data.copy_(low + (high - low) * drawn)
    return model.eval()


def save(model, path, size=32, channels=3, batch=1):
    image = torch.zeros(batch, channels, size, size)
    torch.export.save(torch.export.export(model, (image,)), str(path))
