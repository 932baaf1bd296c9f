import NIOCore
import NIOEmbedded
import Testing

@testable import MagicalaneCore

private let MiB = 1 << 20

@Suite struct MemoryBudgetTests {
  @Test func `a claim counts whole steps and gives them back when it ends`() {
    let budget = MemoryBudget(limit: 64 * MiB)
    do {
      var claim = MemoryClaim(budget)
      claim.hold(MemoryClaim.step - 1)
      #expect(budget.used == 0)
      claim.hold(3 * MemoryClaim.step + 1)
      #expect(budget.used == 3 * MemoryClaim.step)
      claim.hold(MemoryClaim.step)
      #expect(budget.used == MemoryClaim.step)
    }
    #expect(budget.used == 0)
  }

  @Test(arguments: [1, 2, 16, 200])
  func `streams that all take what they can get stay below the limit`(streams: Int) {
    let budget = MemoryBudget(limit: 64 * MiB)
    let memory = StreamMemory(budget: budget)
    let claims = (0..<streams).map { _ in Held(budget) }
    for _ in 0..<1000 {
      for claim in claims { claim.grow(to: memory.room(of: 20 * MiB)) }
      #expect(budget.used <= budget.limit)
    }
    #expect(claims.allSatisfy { $0.bytes > 0 })
    #expect(!budget.isUsedUp)
  }

  @Test func `a stream that is alone gets all that it may have where memory is not scarce`() {
    let memory = StreamMemory(budget: MemoryBudget(limit: 1 << 30))
    #expect(memory.room(of: 20 * MiB) == 20 * MiB)
  }

  @Test func `a stream has its least when the budget is used up`() {
    let budget = MemoryBudget(limit: 64 * MiB)
    var others = MemoryClaim(budget)
    others.hold(80 * MiB)
    #expect(budget.isUsedUp)
    let memory = StreamMemory(budget: budget)
    #expect(memory.room(of: 20 * MiB) == 64 << 10)
    #expect(memory.room(of: 4096) == 4096)
  }

  @Test(arguments: [(16 * MiB, 64 << 10), (256 * MiB, 256 << 10), (1 << 30, MiB), (.max, MiB)])
  func `the least follows the budget`(limit: Int, least: Int) {
    #expect(MemoryBudget(limit: limit).least == least)
  }

  @Test func `a given buffer is what it says, whatever the budget`() {
    let budget = MemoryBudget(limit: 16 * MiB)
    let memory = StreamMemory(budget: budget, isFixed: true)
    #expect(memory.room(of: 20 * MiB) == 20 * MiB)
    #expect(memory.least(of: 20 * MiB) == 20 * MiB)
  }

  @Test func `a smaller limit holds at once`() {
    let budget = MemoryBudget(limit: 1 << 30)
    var claim = MemoryClaim(budget)
    claim.hold(40 * MiB)
    budget.limit = 32 * MiB
    #expect(budget.isUsedUp)
    #expect(budget.share == budget.least)
  }

  private final class Held {
    private var claim: MemoryClaim
    init(_ budget: MemoryBudget) { claim = MemoryClaim(budget) }
    var bytes: Int { claim.bytes }
    func grow(to size: Int) { claim.hold(size) }
  }
}

@Suite struct DuplexMemoryTests {
  @Test func `a stream that takes no more counts what waits in it, and nothing once it moves again`() throws {
    let budget = MemoryBudget()
    let loop = EmbeddedEventLoop()
    let (client, target) = (EmbeddedChannel(loop: loop), EmbeddedChannel(loop: loop))
    for channel in [client, target] {
      try channel.connect(to: SocketAddress(ipAddress: "192.0.2.1", port: 1)).wait()
    }
    _ = try Duplex.join(client: client, target: target, idleTimeout: .hours(1), memory: budget) { _ in }

    target.pipeline.fireChannelRead(ByteBuffer(repeating: 1, count: 200 << 10))
    #expect(budget.used == 0)
    setWritable(client, false)
    #expect(budget.used == 192 << 10)
    setWritable(client, true)
    #expect(budget.used == 0)

    setWritable(client, false)
    #expect(budget.used > 0)
    target.pipeline.fireErrorCaught(ChannelError.ioOnClosedChannel)
    loop.run()
    #expect(budget.used == 0)
  }

  private func setWritable(_ channel: EmbeddedChannel, _ isWritable: Bool) {
    channel.isWritable = isWritable
    channel.pipeline.fireChannelWritabilityChanged()
  }
}

@Suite struct MachineMemoryTests {
  private let machine = ["/proc/meminfo": "MemTotal:       16777216 kB\nMemFree:  1 kB\n"]

  @Test func `a machine without groups has what the kernel says`() {
    #expect(MachineMemory.total { machine[$0] } == 16 << 30)
  }

  @Test func `the smallest limit of the groups around the process holds`() {
    let files = machine.merging([
      "/proc/self/cgroup": "0::/pod/box\n",
      "/sys/fs/cgroup/pod/box/memory.max": "max\n",
      "/sys/fs/cgroup/pod/memory.max": "536870912\n",
    ]) { $1 }
    #expect(MachineMemory.total { files[$0] } == 512 * MiB)
  }

  @Test func `groups of the first version are understood`() {
    let files = machine.merging([
      "/proc/self/cgroup": "9:cpu:/\n4:memory:/docker/a\n0::/\n",
      "/sys/fs/cgroup/memory/memory.limit_in_bytes": "1073741824\n",
      "/sys/fs/cgroup/memory/docker/a/memory.limit_in_bytes": "9223372036854771712\n",
    ]) { $1 }
    #expect(MachineMemory.total { files[$0] } == 1 << 30)
  }

  @Test func `nothing is made up where nothing can be read`() {
    #expect(MachineMemory.total { _ in nil } == nil)
    #expect(MachineMemory.total { _ in "?" } == nil)
  }
}
