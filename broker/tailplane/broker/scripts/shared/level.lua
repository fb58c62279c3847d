-- How many submits an account has used up: a level that each one raises by 1, and that sinks by `per_second`.
-- Kept as `<when, µs> <level>`; gone where it has sunk to 0. This is the generic cell rate algorithm, counted in submits.

-- Return the level at `now`, µs. Where the clock was set back by more than a second, nobody waits until it is that late
-- again: it begins anew.
local function level_at(now, kept, per_second)
  local at, level = string.match(kept or '', '^(%d+) (%S+)$')
  if not at or now - at < -1000000 then return 0 end
  return math.max(0, tonumber(level) - math.max(0, now - at) * per_second / 1e6)
end

-- Return how many submits are left, ms until all are, and ms until there is one.
local function what_is_left(level, per_second, burst)
  -- Sums of fractions may be a billionth beside a whole number.
  local left = math.max(0, math.floor(burst - level + 1e-6))
  local until_one = math.max(0, level + 1 - burst - 1e-6) / per_second
  return left, math.ceil(level / per_second * 1000), math.ceil(until_one * 1000)
end
