"""moto as the Amazon ECS API, with answers of the shapes that the API's model tells."""

import sys

from moto.ecs import models
from moto.server import main

made = models.Container.__init__


def make(self, task_definition):
    made(self, task_definition)
    # A string in the model, a number in moto.
    self.cpu = str(self.cpu)


models.Container.__init__ = make
main(sys.argv[1:])
