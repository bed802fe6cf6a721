import { expect, test } from "vitest";
import { age, bytes, csv, parseBytes, percent, ratio, seconds, signed } from "./format";

test("bytes are told with three digits", () => {
  expect(bytes(0)).toBe("0 B");
  expect(bytes(1536)).toBe("1.50 KiB");
  expect(bytes(20 * 2 ** 30)).toBe("20.0 GiB");
  expect(bytes(999 * 2 ** 40)).toBe("999 TiB");
  expect(bytes(null)).toBe("–");
});

test("sizes are read as people write them", () => {
  expect(parseBytes("20 GiB")).toBe(20 * 2 ** 30);
  expect(parseBytes("1.5t")).toBe(1.5 * 2 ** 40);
  expect(parseBytes("4096")).toBe(4096);
  expect(parseBytes("512 mb")).toBe(512 * 2 ** 20);
  for (const odd of ["", "GiB", "-1", "1 X", "99999 PiB"]) {
    expect(parseBytes(odd)).toBeNull();
  }
});

test("a file for spreadsheets keeps fields apart and runs nothing", () => {
  const text = csv(
    ["name", "size"],
    [
      ['a"b,c', 1],
      ["=cmd()", null],
    ],
  );
  expect(text).toBe('name,size\r\n"a""b,c",1\r\n\'=cmd(),\r\n');
});

test("shares are bounded and spans are short", () => {
  expect(percent(3, 0)).toBe(0);
  expect(percent(9, 3)).toBe(100);
  expect(seconds(59)).toBe("59 s");
  expect(seconds(600)).toBe("10 min");
  expect(seconds(7200)).toBe("2.0 h");
});

test("an age is told in the unit that fits", () => {
  expect(age(45_000)).toBe("45 s");
  expect(age(3_600_000 * 3.5)).toBe("3.5 h");
  expect(age(3_600_000 * 47)).toBe("47.0 h");
  expect(age(86_400_000 * 12.9)).toBe("12 d");
  // The clock of the browser may be behind.
  expect(age(-5000)).toBe("0 s");
});

test("ratios have two digits, and bytes may be missing", () => {
  expect(ratio(125)).toBe("1.25 : 1");
  expect(ratio(98)).toBe("0.98 : 1");
  expect(ratio(100)).toBe("1.00 : 1");
  expect(signed(-4096)).toBe("-4.00 KiB");
  expect(signed(4096)).toBe("4.00 KiB");
});
