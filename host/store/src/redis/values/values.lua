-- One operation on the values of a namespace. The values are a hash, with a set of keys by their end beside it; both have
-- the same hash tag.
--
-- A value is a field `=<key>` with the text `<version> <end> <bytes>`. The end is in Unix milliseconds, 0 for none. Other
-- fields: `#version`, the newest version, `#bytes`, the bytes of all keys and values, and `#sum`, during an increment only.
local values, ends = KEYS[1], KEYS[2]
local operation, key, value, ttl, expected = ARGV[1], ARGV[2], ARGV[3], ARGV[4], ARGV[5]
local most_keys, most_bytes = tonumber(ARGV[6]), tonumber(ARGV[7])
local BATCH = 1000
local field = '=' .. key
local clock = redis.call('TIME')
local now = clock[1] * 1000 + math.floor(clock[2] / 1000)

local function text_of(number)
    return string.format('%.0f', number)
end

local function number_of(name)
    return tonumber(redis.call('HGET', values, name) or '0')
end

local function read(name)
    local packed = redis.call('HGET', values, name)
    if not packed then return nil end
    local version, last, start = string.match(packed, '^(%d+) (%d+) ()')
    return { version = version, last = tonumber(last), value = string.sub(packed, start) }
end

local function is_live(entry)
    return entry.last == 0 or entry.last > now
end

local function size_of(name, entry)
    return #name - 1 + #entry.value
end

local function remove(name, entry)
    redis.call('ZREM', ends, name)
    if entry then
        redis.call('HDEL', values, name)
        redis.call('HINCRBY', values, '#bytes', -size_of(name, entry))
    end
end

-- Removes values whose time has passed; returns how many there were.
local function purge()
    local names = redis.call('ZRANGEBYSCORE', ends, '-inf', text_of(now), 'LIMIT', 0, BATCH)
    for _, name in ipairs(names) do remove(name, read(name)) end
    return #names
end

-- Both keys end with the last value, so that nothing is left of a plugin that is gone.
local function set_life()
    local count = redis.call('HLEN', values) - 2
    if count <= 0 then
        redis.call('DEL', values, ends)
    elseif redis.call('ZCARD', ends) >= count then
        local last = text_of(tonumber(redis.call('ZRANGE', ends, -1, -1, 'WITHSCORES')[2]))
        redis.call('PEXPIREAT', values, last)
        redis.call('PEXPIREAT', ends, last)
    else
        redis.call('PERSIST', values)
        redis.call('PERSIST', ends)
    end
end

local function current()
    local entry = read(field)
    if entry and is_live(entry) then return entry end
    return nil
end

-- Writes a value with its end; returns whether there was room.
local function write(bytes, last)
    if redis.call('HSETNX', values, '#version', '0') == 1 then
        redis.call('HSET', values, '#bytes', '0')
        -- A database that is full may have evicted the values and not their ends.
        redis.call('DEL', ends)
    end
    local size = #key + #bytes
    local entry, fits
    repeat
        local purged = purge()
        entry = read(field)
        local others = number_of('#bytes') - (entry and size_of(field, entry) or 0)
        fits = others + size <= most_bytes and (entry or redis.call('HLEN', values) - 2 < most_keys)
    until fits or purged < BATCH
    if not fits then return false end
    remove(field, entry)
    -- Versions also grow if the database loses its data.
    local version = text_of(math.max(number_of('#version') + 1, clock[1] * 1000000 + clock[2]))
    redis.call('HSET', values, field, version .. ' ' .. text_of(last) .. ' ' .. bytes, '#version', version)
    redis.call('HINCRBY', values, '#bytes', size)
    if last ~= 0 then redis.call('ZADD', ends, text_of(last), field) end
    return true
end

local function written(bytes, last, reply)
    local fits = write(bytes, last)
    set_life()
    return fits and reply or { 'full' }
end

local function end_of_new()
    return ttl == '' and 0 or now + tonumber(ttl)
end

if operation == 'get' then
    local entry = current()
    return entry and { 'value', entry.version, entry.value } or { 'none' }
elseif operation == 'set' then
    return written(value, end_of_new(), { 'written' })
elseif operation == 'compare-and-set' then
    local entry = current()
    if (entry and entry.version or '') ~= expected then return { 'other-version' } end
    return written(value, end_of_new(), { 'written' })
elseif operation == 'increment' then
    local entry = current()
    local sign, digits = string.match(entry and entry.value or '0', '^([+-]?)0*(%d+)$')
    if not digits then return { 'not-a-number' } end
    if sign == '-' and digits ~= '0' then digits = '-' .. digits end
    -- Numbers of Lua are not exact beyond 2^53; those of Redis are.
    redis.call('HSET', values, '#sum', digits)
    local added = redis.pcall('HINCRBY', values, '#sum', value)
    local sum = redis.call('HGET', values, '#sum')
    redis.call('HDEL', values, '#sum')
    if type(added) == 'table' and added.err then
        if not string.find(added.err, 'overflow', 1, true) then return { 'not-a-number' } end
        sum = string.sub(value, 1, 1) == '-' and '-9223372036854775808' or '9223372036854775807'
    end
    return written(sum, entry and entry.last or end_of_new(), { 'sum', sum })
elseif operation == 'delete' then
    local entry = current()
    if redis.call('EXISTS', values) == 1 then
        remove(field, read(field))
        set_life()
    end
    return { entry and 'deleted' or 'none' }
end
