-- Claims, renews and releases leases, and returns the number of instances, and holder, note and position of each source.
-- KEYS: the members, the notes, then a lease and the content of each source. ARGV: the instance, the lifetime of a lease in
-- milliseconds, the lifetime of content in milliseconds, the field of a position, then name, action and note of each source.
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
redis.call('ZADD', KEYS[1], now + ARGV[2], ARGV[1])
redis.call('ZREMRANGEBYSCORE', KEYS[1], '-inf', now)
redis.call('PEXPIRE', KEYS[1], ARGV[2])
local reply = { tostring(redis.call('ZCARD', KEYS[1])) }
for i = 0, (#KEYS - 2) / 2 - 1 do
  local lease, content = KEYS[3 + 2 * i], KEYS[4 + 2 * i]
  local name, action, note = ARGV[5 + 3 * i], ARGV[6 + 3 * i], ARGV[7 + 3 * i]
  local holder = redis.call('GET', lease)
  if holder == ARGV[1] then
    if action == 'release' then
      redis.call('DEL', lease)
      holder = false
    else
      redis.call('PEXPIRE', lease, ARGV[2])
      if redis.call('PTTL', content) < ARGV[3] / 2 then
        redis.call('PEXPIRE', content, ARGV[3])
      end
    end
  elseif not holder and action == 'claim' then
    redis.call('SET', lease, ARGV[1], 'PX', ARGV[2])
    redis.call('PEXPIRE', content, ARGV[3])
    holder = ARGV[1]
  end
  if holder == ARGV[1] and redis.call('HGET', KEYS[2], name) ~= note then
    redis.call('HSET', KEYS[2], name, note)
  end
  reply[#reply + 1] = holder or ''
  reply[#reply + 1] = redis.call('HGET', KEYS[2], name) or ''
  reply[#reply + 1] = redis.call('HGET', content, ARGV[4]) or ''
end
return reply
