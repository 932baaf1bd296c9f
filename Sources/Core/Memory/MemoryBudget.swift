import NIOCore
import Synchronization

/// How many bytes may wait in all streams of the process together: `limits.memory`.
///
/// Whoever keeps bytes for a stream holds a `MemoryClaim` for them. Nobody is stopped by force: each part of a
/// stream asks how large it may be (`StreamMemory`) before it lets more come, and the less is left, the smaller
/// the answer. A part always has its `least`, so that no stream ever stands still for want of memory; when even
/// those have used the budget up, new sessions are refused.
///
/// Safe from any thread: two numbers, read and added to without a lock.
public final class MemoryBudget: Sendable {
  /// The one of this process; tests make their own.
  public static let process = MemoryBudget(limit: MachineMemory.quarter)

  private let most: Atomic<Int>
  private let claimed = Atomic(0)

  /// - Parameter limit: in bytes.
  public init(limit: Int = .max) {
    most = Atomic(limit)
  }

  /// In bytes. A new one holds at once: streams that have more shrink as their bytes are read.
  public var limit: Int {
    get { most.load(ordering: .relaxed) }
    set { most.store(newValue, ordering: .relaxed) }
  }

  /// What is claimed, in bytes.
  public var used: Int { claimed.load(ordering: .relaxed) }

  /// Whether there is no room for another session.
  public var isUsedUp: Bool { used >= limit }

  /// What a part of a stream may always have: a 1024th of the budget, 64 KiB to 1 MiB.
  public var least: Int { min(max(limit / 1024, 64 << 10), 1 << 20) }

  /// What one part may have now: a quarter of what is left of three quarters. The last one is for parts that have
  /// no more than their least.
  ///
  /// However many want as much as they can get, they need not be counted: N of them settle at N parts in N + 4.
  public var share: Int { max(least, (limit / 4 * 3 - used) / 4) }

  fileprivate func change(by bytes: Int) {
    claimed.wrappingAdd(bytes, ordering: .relaxed)
  }
}

/// What one part of a stream has taken of the budget. Its end gives it back.
public struct MemoryClaim: ~Copyable {
  /// Claims are whole steps, and less than one is not counted: small streams cost no atomic addition.
  public static let step = 64 << 10

  private let budget: MemoryBudget
  /// A multiple of `step`.
  public private(set) var bytes = 0

  /// Claims nothing yet.
  public init(_ budget: MemoryBudget) {
    self.budget = budget
  }

  deinit {
    if bytes != 0 { budget.change(by: -bytes) }
  }

  /// Says how much waits now, in bytes.
  public mutating func hold(_ waiting: Int) {
    let wanted = waiting / MemoryClaim.step * MemoryClaim.step
    guard wanted != bytes else { return }
    budget.change(by: wanted - bytes)
    bytes = wanted
  }
}

/// How the streams of one config entry size what may wait in them: by the budget, or as `buffer:` says.
public struct StreamMemory: Sendable {
  /// Where what waits is counted, in either case.
  public var budget: MemoryBudget
  /// `buffer:` was given: sizes follow from it alone.
  public var isFixed: Bool

  /// By a budget without end, as tests use it.
  public init(budget: MemoryBudget = MemoryBudget(), isFixed: Bool = false) {
    self.budget = budget
    self.isFixed = isFixed
  }

  /// What a part may have at any time, that would have `most` bytes were there no budget.
  public func least(of most: Int) -> Int {
    isFixed ? most : min(most, budget.least)
  }

  /// What the same part may have now. Not less than `least(of:)`, and another time another number.
  public func room(of most: Int) -> Int {
    isFixed ? most : min(most, budget.share)
  }
}

/// A channel that holds claims of its own for what waits in it to be sent. For all others the duplex does it.
public protocol MemoryCounting: Channel {}
