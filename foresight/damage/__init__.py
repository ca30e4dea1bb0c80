"""What training a component would gain on the target and cost in skills that are to be kept, by virtual moves."""

from .forecast import over_the_rest, parts
from .moves import BENEFIT, DAMAGE, VirtualMoves
from .proxies import PROXIES, make_proxy

__all__ = ["BENEFIT", "DAMAGE", "PROXIES", "VirtualMoves", "make_proxy", "over_the_rest", "parts"]
