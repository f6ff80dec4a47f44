"""The protocol of recovery with one part left out: what tests must notice. Each is given a monkeypatch."""

from bench.faults.simulation import Simulation
from shmps.engines.processes.node import Node
from shmps.ps.messages import PUSH, PUSH_PULL, Enter, Start
from shmps.ps.scheduler.deaths import Death
from shmps.ps.scheduler.membership import BEGINNING, Barrier
from shmps.ps.scheduler.nodes import Nodes
from shmps.ps.scheduler.run_state import RunState
from shmps.ps.scheduler.scheduler import Scheduler
from shmps.ps.server.redo_log import RedoLog
from shmps.ps.server.server import Server
from shmps.ps.worker.client import Client
from shmps.ps.worker.requests import Requests


def without_done(monkeypatch):
    """A push that is announced again is applied again."""
    push = Server._push

    def push_again(self, record):
        for known in (self._redo.done, self._last):
            known[record.sender] = min(known[record.sender], record.number - 1)
        push(self, record)

    for op in (PUSH, PUSH_PULL):
        monkeypatch.setitem(Server._from_worker, op, push_again)


def without_the_redo_slot(monkeypatch):
    """What a server that died had half applied stays so."""
    monkeypatch.setattr(RedoLog, "recover", lambda self: True)


def without_lives(monkeypatch):
    """Everybody takes what was sent by or to a former life."""
    handle, answer, take_in = Server.handle, Requests.answer, Client.take_in

    def handle_any(self, record):
        life = self._lives.get(record.sender) if record.op in self._from_worker else record.life
        return handle(self, record._replace(to=self.life, life=life or record.life))

    def answer_any(self, record):
        return answer(self, record._replace(life=self._lives[record.sender]))

    def take_in_any(self, records):
        take_in(self, [record._replace(to=self._life) for record in records])

    monkeypatch.setattr(Server, "handle", handle_any)
    monkeypatch.setattr(Requests, "answer", answer_any)
    monkeypatch.setattr(Client, "take_in", take_in_any)


def without_announcing_again(monkeypatch):
    """A request that a server took with it is not made again."""
    welcome = Requests.welcome
    monkeypatch.setattr(Requests, "welcome", lambda self, *welcomed: welcome(self, *welcomed)[:0])


def without_fencing(monkeypatch):
    """A node that hangs is replaced as if it had died."""

    turn = Scheduler._turn

    def replace_alive(self):
        alive = []
        with monkeypatch.context() as patch:
            patch.setattr(Node, "kill", lambda node: alive.append(node))
            turn(self)
        for node in alive:
            del self._nodes._watches[node.life]
            self._nodes._engine._forget(node)
            self._replace_server(Death(node, "hung", -9))

    monkeypatch.setattr(Scheduler, "_turn", replace_alive)


def without_shipping_again(monkeypatch):
    """A successor takes it that the replica has all that its predecessor had applied."""
    recover = RedoLog.recover

    def recover_alone(self):
        sound = recover(self)
        if self._replica is not None:
            self._replica.versions[self._server] = self.version
        return sound

    monkeypatch.setattr(RedoLog, "recover", recover_alone)


# What a server's successor is told of those who had joined.


def without_who_joined(monkeypatch):
    def tell_a_successor(self, server):
        known = [worker for worker in self._entered if worker < self._run.workers]
        self._nodes.send_server(server, Start(len(known)))
        for worker in known:
            self._tell_of_worker(server, worker)

    monkeypatch.setattr(RunState, "tell", tell_a_successor)


def without_the_tick_at_which_they_joined(monkeypatch):
    send = Nodes.send_server

    def forgetful(self, server, message):
        send(self, server, message._replace(tick=0) if isinstance(message, Enter) else message)

    monkeypatch.setattr(Nodes, "send_server", forgetful)


def without_waiting_for_all(monkeypatch):
    start = Server._start

    def hasty(self, message):
        start(self, message._replace(workers=0))

    monkeypatch.setitem(Server._from_scheduler, Start, hasty)


# What is known of a newcomer by others than the servers.


def without_the_epoch_at_which_they_joined(monkeypatch):
    """A newcomer waits at barriers that the others have behind them."""
    monkeypatch.setattr(Barrier, "add", lambda self, rank, epoch: self._passed.update({rank: BEGINNING}))


def without_waiting_for_the_servers_pipes(monkeypatch):
    """The worker that asked goes on before all servers have read of the newcomer."""

    def carry_at_once(self, role, post, address, record):
        self.carry(post, address, [record], record)

    monkeypatch.setattr(Simulation, "carry_behind", carry_at_once)
