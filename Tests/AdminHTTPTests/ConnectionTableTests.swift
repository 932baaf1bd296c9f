import Testing

@testable import MagicalaneAdminHTTP

private let start = ContinuousClock.now
private func after(_ seconds: Int) -> ContinuousClock.Instant { start + .seconds(seconds) }

@Test func `a first request has its time from the moment it connects`() {
  var table = ConnectionTable(limits: HTTPLimits())
  let id = table.add(socket: 5, now: start)
  table.begin(id, now: after(9))
  #expect(table.overdue(now: after(9)) == [])
  #expect(table.overdue(now: after(10)) == [id])
}

@Test func `the next request has its time from its request line, and idling a time of its own`() {
  var table = ConnectionTable(limits: HTTPLimits())
  let id = table.add(socket: 5, now: start)
  table.enter(.idle, id, now: after(1))
  #expect(table.overdue(now: after(30)) == [])
  #expect(table.overdue(now: after(31)) == [id])
  table.begin(id, now: after(30))
  #expect(table.overdue(now: after(39)) == [])
  #expect(table.overdue(now: after(40)) == [id])
}

@Test func `a handler takes the time it needs, and a client the time it is given`() {
  var table = ConnectionTable(limits: HTTPLimits())
  let id = table.add(socket: 5, now: start)
  #expect(table.unasked == [id])
  table.enter(.quiet, id, now: start)
  #expect(table.unasked == [])
  #expect(table.overdue(now: after(1000)) == [])
  table.enter(.sending, id, now: after(1000))
  #expect(table.overdue(now: after(1030)) == [id])
}

@Test func `a connection is given up once, and its socket is not named after it closed`() {
  var table = ConnectionTable(limits: HTTPLimits())
  let id = table.add(socket: 5, now: start)
  #expect(table.shutDown(id) == 5)
  #expect(table.shutDown(id) == nil)
  #expect(table.overdue(now: after(1000)) == [])
  table.remove(id)
  #expect(table.count == 0)
  #expect(table.shutDown(id) == nil)
  #expect(table.socket(of: id) == nil)
  #expect(table.add(socket: 5, now: start) != id)
}
