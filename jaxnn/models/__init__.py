"""What a network computes, one net a file."""

from jaxnn.models import neocognitron, neuron, perceptron, rbf, som
from jaxnn.models.alexnet import AlexNet, AlexNetTwoTower
from jaxnn.models.four_layer_cnn import FourLayerCNN
from jaxnn.models.functional import Functional, apply_changed, functional, layers
from jaxnn.models.googlenet import GoogLeNet, GoogLeNetPaper
from jaxnn.models.lenet import LeNet5, LeNet5Original, LocallyConnectedLeNet5
from jaxnn.models.mlp import MLP
from jaxnn.models.resnet import (
    CifarPlain20,
    CifarPlain32,
    CifarPlain44,
    CifarPlain56,
    CifarPlain110,
    CifarResNet,
    CifarResNet20,
    CifarResNet32,
    CifarResNet44,
    CifarResNet56,
    CifarResNet110,
    ResNet,
    ResNet18,
    ResNet34,
    ResNet50,
    ResNet101,
    ResNet152,
)
from jaxnn.models.tdnn import TDNN
from jaxnn.models.text_cnn import TextCNN
from jaxnn.models.two_layer_cnn import TwoLayerCNN
from jaxnn.models.vgg import VGG, VGG11, VGG13, VGG16, VGG19
from jaxnn.models.zfnet import ZFNet

__all__ = [
    "MLP",
    "TDNN",
    "VGG",
    "VGG11",
    "VGG13",
    "VGG16",
    "VGG19",
    "AlexNet",
    "AlexNetTwoTower",
    "CifarPlain20",
    "CifarPlain32",
    "CifarPlain44",
    "CifarPlain56",
    "CifarPlain110",
    "CifarResNet",
    "CifarResNet20",
    "CifarResNet32",
    "CifarResNet44",
    "CifarResNet56",
    "CifarResNet110",
    "FourLayerCNN",
    "Functional",
    "GoogLeNet",
    "GoogLeNetPaper",
    "LeNet5",
    "LeNet5Original",
    "LocallyConnectedLeNet5",
    "ResNet",
    "ResNet18",
    "ResNet34",
    "ResNet50",
    "ResNet101",
    "ResNet152",
    "TextCNN",
    "TwoLayerCNN",
    "ZFNet",
    "apply_changed",
    "functional",
    "layers",
    "neocognitron",
    "neuron",
    "perceptron",
    "rbf",
    "som",
]
