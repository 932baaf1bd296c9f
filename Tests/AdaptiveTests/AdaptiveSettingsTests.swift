import Foundation
import MagicalaneCore
import NIOCore
import Testing

@testable import MagicalaneAdaptive

@Suite struct RatioTests {
  @Test(arguments: [
    ("10%", 0.1), ("0.1", 0.1), ("2.5%", 0.025), ("0", 0), ("1", 1), ("100%", 1), ("5 %", 0.05),
  ])
  func `a ratio is a percentage or a number up to 1`(text: String, value: Double) {
    #expect(Ratio(configText: text)?.value == value)
  }

  @Test(arguments: ["", "%", "10", "1.1", "101%", "-1%", "nan", "inf", "0x1p-3", "1e-3", ".", "1.2.3%", "٥%"])
  func `anything else is no ratio`(text: String) {
    #expect(Ratio(configText: text) == nil)
  }

  @Test(arguments: ["0%", "10%", "2.5%", "0.25%", "100%"])
  func `a ratio is written as it is read`(text: String) {
    #expect(Ratio(configText: text).map { "\($0)" } == text)
  }
}

@Suite struct AdaptiveSettingsTests {
  @Test func `the defaults are valid`() throws {
    try AdaptiveSettings().check()
  }

  @Test func `settings come back as they were written`() throws {
    let settings = try AdaptiveSettings().changed(by: [
      ("enter_loss", "12.5%"), ("leave_loss", "0.01"), ("hold", "90s"), ("min_packets", "20"),
      ("head_start", "250ms"), ("dwell", "5m"),
    ])
    let text = try JSONEncoder().encode(settings)
    #expect(try JSONDecoder().decode(AdaptiveSettings.self, from: text) == settings)
    #expect(settings.enterLoss == Ratio(0.125))
    #expect(settings.dwell == .minutes(5))
  }

  @Test func `every key can be set to the text that it shows`() throws {
    let defaults = AdaptiveSettings()
    for key in AdaptiveSettings.Key.allCases {
      #expect(try defaults.changed(by: [(key.rawValue, key.text(in: defaults))]) == defaults)
    }
  }

  @Test(arguments: [
    ("enter_loss", "10", "expected a ratio such as 10% or 0.1, found '10'"),
    ("enter_loss", "1%", "must not be above enter_loss, which is 1%; it is 2%"),
    ("hold", "60", "expected a duration such as 500ms, 30s, 5m or 2h, found '60'"),
    ("min_packets", "0", "must be from 1 to 100000, not 0"),
    ("min_packets", "many", "expected an integer, found 'many'"),
    ("window", "500ms", "must be from 1s to 10m, not 500ms"),
    ("reach", "5s", "must not be below window, which is 10s; it is 5s"),
    ("enter_los", "1%", "unknown key 'enter_los'; did you mean 'enter_loss'?"),
  ])
  func `a change that makes no sense is refused in plain words`(key: String, text: String, message: String) {
    let error = #expect(throws: PluginError.self) { try AdaptiveSettings().changed(by: [(key, text)]) }
    #expect(error?.description == message)
  }

  @Test func `changes are checked together, in whatever order they come`() throws {
    let settings = try AdaptiveSettings().changed(by: [("leave_loss", "8%"), ("enter_loss", "10%")])
    #expect(settings.leaveLoss == Ratio(0.08))
  }

  @Test func `an unknown key far from all lists those there are`() {
    let error = #expect(throws: PluginError.self) { try AdaptiveSettings().changed(by: [("colour", "1")]) }
    #expect(error?.description.hasPrefix("unknown key 'colour'; known keys: enter_loss, leave_loss") == true)
  }
}
