"""Recipe of Order Matters: sets that are read and written in an order, and orders that are found while training.

Sorting and stars of variables are drawn here, as in the paper; groups of five words are from three novels, in the place
of the licensed Penn treebank.
"""

from kilter.recipes.order_matters.sort import OrderMattersSort
from kilter.recipes.order_matters.star import OrderMattersStar
from kilter.recipes.order_matters.words import OrderMattersWords

__all__ = ["RECIPE", "OrderMattersSort", "OrderMattersStar", "OrderMattersWords"]

RECIPE = {"sort": OrderMattersSort, "star": OrderMattersStar, "words": OrderMattersWords}
