import Testing

@testable import MagicalaneAdminHTTP

@Suite struct PrometheusTextTests {
  @Test(arguments: [
    ("open sessions", "magicalane_open_sessions"),
    ("Some.transportName-x", "magicalane_some_transport_name_x"),
    ("magicalane_bytes", "magicalane_bytes"),
    ("a:b", "magicalane_a_b"),
    ("9lives", "magicalane_9lives"),
    ("größe", "magicalane_gr__e"),
    ("", "magicalane_unnamed"),
    ("_-_", "magicalane_unnamed"),
    ("x\n# TYPE y counter", "magicalane_x___type_y_counter"),
  ])
  func `a family's name has only what Prometheus takes`(label: String, name: String) {
    #expect(PrometheusName.family(label) == name)
  }

  @Test func `a suffix is added once`() {
    #expect(PrometheusName.family("x", suffix: "_total") == "magicalane_x_total")
    #expect(PrometheusName.family("x_total", suffix: "_total") == "magicalane_x_total")
  }

  @Test(arguments: [
    ("frontend", "frontend"), ("a b", "a_b"), ("1st", "_1st"), ("__name__", "_name__"), ("", "_"),
    ("le", "exported_le"), ("quantile", "exported_quantile"), ("a\"b", "a_b"),
  ])
  func `a label's name has only what Prometheus takes`(label: String, name: String) {
    #expect(PrometheusName.label(label) == name)
  }

  @Test func `a label's value is escaped`() {
    #expect(
      PrometheusText.labels([("a", "say \"hi\"\\\r\n\u{0}ü")]) == "a=\"say \\\"hi\\\"\\\\\r\\n\u{FFFD}ü\""
    )
  }

  @Test func `a help text is escaped`() {
    var text = PrometheusText()
    text.family("x", .gauge, help: "a \"b\"\nc\\")
    #expect(text.text == "# HELP x a \"b\"\\nc\\\\\n# TYPE x gauge\n")
  }

  @Test func `labels are sorted, empty ones left out, and the first of two names holds`() {
    #expect(PrometheusText.labels([("b", "2"), ("a", "1"), ("c", ""), ("b", "3")]) == "a=\"1\",b=\"2\"")
  }

  @Test(arguments: [
    (0.0, "0"), (-3, "-3"), (0.0001, "0.0001"), (2.5, "2.5"), (1e300, "1e+300"), (.nan, "NaN"),
    (.infinity, "+Inf"), (-.infinity, "-Inf"), (4_503_599_627_370_496, "4503599627370496"),
  ])
  func `numbers are short`(value: Double, text: String) {
    #expect(PrometheusText.number(value) == text)
  }
}

@Suite struct PrometheusProcessTests {
  @Test func `fields are found behind a name with spaces and parentheses`() {
    let rest = (3...52).map { "\($0)" }.joined(separator: " ")
    var process = ProcessMetrics()
    process.takeStat("77 (a b) c) \(rest)", bootTime: 1000, ticksPerSecond: 100, pageSize: 4096)
    #expect(process.cpuTime == 0.29)
    #expect(process.threads == 20)
    #expect(process.startTime == 1000.22)
    #expect(process.residentMemory == 98_304.0)
  }

  @Test(arguments: ["", "77", "77 (x)", "77 (x) R 1 2"])
  func `a cut off text leaves values unknown`(stat: String) {
    var process = ProcessMetrics()
    process.takeStat(stat, bootTime: nil, ticksPerSecond: 100, pageSize: 4096)
    #expect(process == ProcessMetrics())
  }

  @Test func `boot time is found`() {
    #expect(ProcessMetrics.bootTime("cpu 1 2\nbtime 1700000000\nprocesses 5\n") == 1_700_000_000)
    #expect(ProcessMetrics.bootTime("cpu 1 2\n") == nil)
  }

  @Test func `this process has memory, files, threads and a start`() {
    let process = ProcessMetrics.current()
    #expect(process.residentMemory ?? 0 > 1_048_576)
    #expect(process.openFiles ?? 0 >= 3)
    #expect(process.threads ?? 0 >= 1)
    #expect(process.startTime ?? 0 > 1_500_000_000)
    #expect(process.cpuTime != nil)
  }
}
